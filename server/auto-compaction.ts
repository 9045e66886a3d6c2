/**
 * Decides when old revisions may go, so that nobody has to remember to compact.
 *
 * `periodic` keeps everything younger than the retention: the revision is sampled ten times per
 * retention (at most every six minutes) and the newest sample that is old enough becomes the
 * compaction revision, at most once an hour. `revision` keeps the newest N revisions and looks
 * every five minutes. Both rules are etcd's; here `periodic` with one hour is the default.
 */
import type { Revision } from './mvcc/types.ts';

export type AutoCompactionPolicy =
  | { readonly mode: 'off' }
  | { readonly mode: 'periodic'; readonly retentionMs: number }
  | { readonly mode: 'revision'; readonly keep: number };

const HOUR_MS = 3_600_000;
const SAMPLE_MS_MAX = 6 * 60_000;
const REVISION_CHECK_MS = 5 * 60_000;

type Sample = { readonly atMs: number; readonly revision: Revision };

export class AutoCompaction {
  readonly #policy: AutoCompactionPolicy;
  /** Oldest first; never longer than the retention divided by the sampling interval, plus one. */
  #samples: Sample[] = [];
  #lastSampleMs = Number.NEGATIVE_INFINITY;
  #lastCompactionMs = Number.NEGATIVE_INFINITY;

  constructor(policy: AutoCompactionPolicy) {
    this.#policy = policy;
  }

  /**
   * Called every tick of the leader with the store's revision; returns the revision to compact to,
   * when it is time. Losing and regaining leadership only delays a compaction.
   */
  tick(nowMs: number, revision: Revision): Revision | undefined {
    switch (this.#policy.mode) {
      case 'off':
        return undefined;
      case 'revision':
        return this.#byCount(nowMs, revision, this.#policy.keep);
      case 'periodic':
        return this.#byAge(nowMs, revision, this.#policy.retentionMs);
    }
  }

  #byCount(nowMs: number, revision: Revision, keep: number): Revision | undefined {
    if (nowMs - this.#lastCompactionMs < REVISION_CHECK_MS) return undefined;
    this.#lastCompactionMs = nowMs;
    return revision > keep ? revision - keep : undefined;
  }

  #byAge(nowMs: number, revision: Revision, retentionMs: number): Revision | undefined {
    if (nowMs - this.#lastSampleMs < Math.min(retentionMs / 10, SAMPLE_MS_MAX)) return undefined;
    this.#lastSampleMs = nowMs;
    this.#samples.push({ atMs: nowMs, revision });
    if (nowMs - this.#lastCompactionMs < Math.min(retentionMs, HOUR_MS)) return undefined;
    const old = this.#samples.filter((sample) => nowMs - sample.atMs >= retentionMs);
    const target = old.at(-1);
    if (target === undefined) return undefined;
    this.#samples = this.#samples.slice(old.length);
    this.#lastCompactionMs = nowMs;
    return target.revision;
  }
}
