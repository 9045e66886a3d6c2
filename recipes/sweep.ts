/**
 * Housekeeping of a queue, done by any worker, as often as it likes: everything it moves is fenced by
 * what it read.
 *
 * - claims of workers that are gone return to the line at once;
 * - claims that stay unchanged for their visibility period, counted on this sweeper's own clock from
 *   when it first saw them so, count as abandoned;
 * - either way a job that is out of attempts becomes a dead letter;
 * - delayed jobs whose time has come become ready.
 */
import type { Client } from '../sdk/client.ts';
import type { KeyValue } from '../sdk/kv.ts';
import { compare, op } from '../sdk/txn.ts';
import { moveToDead, moveToReady, parseAtKey } from './job-moves.ts';
import { type ClaimState, readClaimState, readJobState, withoutClaim } from './job-record.ts';
import type { QueueKeys } from './names.ts';
import { untilAnswered } from './repeat.ts';

/** Delayed jobs looked at in one sweep. */
const dueBatch = 100;

export type Swept = {
  /** Jobs that went back to ready, and why. */
  readonly returned: readonly { readonly id: string; readonly reason: string }[];
  /** Jobs that became dead letters, and why. */
  readonly dead: readonly { readonly id: string; readonly reason: string }[];
  /** Delayed jobs that became ready. */
  readonly due: number;
  /** How long until the next delayed job is due; undefined when none waits. */
  readonly nextDueInMs: number | undefined;
};

type Sighting = { readonly revision: bigint; readonly sinceMs: number };

const workerGone = 'its worker is gone';

export class Sweeper {
  readonly #client: Client;
  readonly #keys: QueueKeys;
  /** Since when each claim has been seen at which revision, on the monotonic clock. */
  #seen = new Map<string, Sighting>();

  constructor(client: Client, keys: QueueKeys) {
    this.#client = client;
    this.#keys = keys;
  }

  async sweep(signal: AbortSignal): Promise<Swept> {
    const { kv, clock } = this.#client;
    const read = kv
      .txn()
      .then(
        op.list({ prefix: this.#keys.claim }),
        op.list({ prefix: this.#keys.worker }, { keysOnly: true }),
        op.list({ prefix: this.#keys.at }, { limit: dueBatch }),
      );
    const { responses } = await untilAnswered(this.#client, () => read.commit({ signal }), signal);
    const [claims, workers, delayed] = responses as readonly [
      { kvs: readonly KeyValue[] },
      { kvs: readonly KeyValue[] },
      { kvs: readonly KeyValue[] },
    ];
    const returned: { id: string; reason: string }[] = [];
    const dead: { id: string; reason: string }[] = [];
    for (const { claim, reason } of this.#abandoned(claims.kvs, workers.kvs)) {
      const id = claim.key.slice(this.#keys.claim.length);
      const outcome = await this.#recover(claim, id, reason, signal);
      if (outcome === 'ready') returned.push({ id, reason });
      if (outcome === 'dead') dead.push({ id, reason });
    }
    let due = 0;
    let nextDueInMs: number | undefined;
    for (const entry of delayed.kvs) {
      const { id, dueMs } = parseAtKey(this.#keys, entry.key);
      const leftMs = dueMs - clock.wallMs();
      if (leftMs > 0) {
        nextDueInMs = leftMs;
        break;
      }
      const from = { key: entry.key, revision: entry.modRevision };
      const move = moveToReady(kv, this.#keys, from, id, readJobState(entry));
      const { succeeded } = await untilAnswered(
        this.#client,
        () => move.commit({ signal }),
        signal,
      );
      if (succeeded) due += 1;
    }
    // Whoever moved them: behind a whole batch of due ones there may be more.
    if (delayed.kvs.length === dueBatch) nextDueInMs ??= 0;
    return { returned, dead, due, nextDueInMs };
  }

  *#abandoned(
    claims: readonly KeyValue[],
    workers: readonly KeyValue[],
  ): Generator<{ claim: KeyValue; reason: string }> {
    const nowMs = this.#client.clock.monotonicMs();
    const alive = new Set(workers.map(({ key }) => key.slice(this.#keys.worker.length)));
    const seen = new Map<string, Sighting>();
    for (const claim of claims) {
      const before = this.#seen.get(claim.key);
      const unchanged = before?.revision === claim.modRevision;
      const sinceMs = unchanged ? before.sinceMs : nowMs;
      seen.set(claim.key, { revision: claim.modRevision, sinceMs });
      const { worker, visibilityMs } = readClaimState(claim);
      if (!alive.has(worker)) yield { claim, reason: workerGone };
      else if (nowMs - sinceMs >= visibilityMs) {
        yield { claim, reason: `its worker did not extend it within ${visibilityMs} ms` };
      }
    }
    this.#seen = seen;
  }

  async #recover(
    claim: KeyValue,
    id: string,
    reason: string,
    signal: AbortSignal,
  ): Promise<'ready' | 'dead' | 'elsewhere'> {
    const { kv, clock } = this.#client;
    const state: ClaimState = readClaimState(claim);
    const from = { key: claim.key, revision: claim.modRevision };
    const last = state.attempts >= state.attemptsMax;
    const why = {
      reason: `attempt ${state.attempts} of ${state.attemptsMax} failed: ${reason}`,
      deadMs: clock.wallMs(),
    };
    const failed = { ...withoutClaim(state), error: reason };
    const move = last
      ? moveToDead(kv, this.#keys, from, id, state, why)
      : moveToReady(kv, this.#keys, from, id, failed);
    // A claim is never returned behind the back of a worker that has come to life meanwhile.
    const gone = this.#keys.worker + state.worker;
    const fenced = reason === workerGone ? move.if(compare.createRevision(gone, '==', 0n)) : move;
    const { succeeded } = await untilAnswered(
      this.#client,
      () => fenced.commit({ signal }),
      signal,
    );
    if (!succeeded) return 'elsewhere';
    return last ? 'dead' : 'ready';
  }
}
