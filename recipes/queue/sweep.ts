/**
 * Housekeeping of a queue, done by any worker, as often as it likes: everything it moves is fenced by
 * what it read.
 *
 * - claims of workers that are gone return to the line at once;
 * - claims that stay unchanged for their visibility period, counted on this sweeper's own clock from
 *   when it first saw them so, count as abandoned;
 * - either way a job that is out of attempts becomes a dead letter, and one that was ordered to stop is
 *   dropped;
 * - turns of groups are passed on, and parents let go, where somebody left off before that;
 * - delayed jobs whose time has come become ready.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { dead, type Ending, leaving, putBack } from './claim-endings.ts';
import { moveToReady, unchanged } from './job-moves.ts';
import { parseAtKey, rankedAt } from './job-places.ts';
import { readClaimState, readJobState } from './job-record.ts';
import { releaseParent } from './parent-release.ts';
import { passOn } from './pass-on.ts';
import { passTurns } from './turns.ts';

/** Delayed jobs, groups and parents looked at in one sweep. */
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

type Listed = { readonly kvs: readonly KeyValue[] };

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
        op.list({ prefix: this.#keys.at }, { limit: dueBatch, uncounted: true }),
        op.list({ prefix: this.#keys.cancel }),
        op.list({ prefix: this.#keys.pass }, { limit: dueBatch, keysOnly: true, uncounted: true }),
        op.list({ prefix: this.#keys.freed }, { limit: dueBatch, keysOnly: true, uncounted: true }),
      );
    const { responses, revision } = await untilAnswered(
      this.#client,
      () => read.commit({ signal }),
      signal,
    );
    const [claims, workers, delayed, orders, passes, freed] = responses as readonly [
      Listed,
      Listed,
      Listed,
      Listed,
      Listed,
      Listed,
    ];
    const orderOf = new Map(orders.kvs.map((kv) => [kv.key.slice(this.#keys.cancel.length), kv]));
    const returned: { id: string; reason: string }[] = [];
    const buried: { id: string; reason: string }[] = [];
    for (const { claim, reason } of this.#abandoned(claims.kvs, workers.kvs)) {
      const id = claim.key.slice(this.#keys.claim.length);
      const outcome = await this.#recover(claim, orderOf.get(id) ?? null, reason, signal);
      if (outcome === 'ready') returned.push({ id, reason });
      if (outcome === 'dead') buried.push({ id, reason });
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
      const move = moveToReady(kv, this.#keys, from, id, rankedAt(readJobState(entry), revision));
      const { succeeded } = await untilAnswered(
        this.#client,
        () => move.commit({ signal }),
        signal,
      );
      if (succeeded) due += 1;
    }
    for (const { key } of passes.kvs) {
      await passTurns(this.#client, this.#keys, key.slice(this.#keys.pass.length), signal);
    }
    for (const { key } of freed.kvs) {
      await releaseParent(this.#client, this.#keys, key.slice(this.#keys.freed.length), signal);
    }
    // Whoever moved them: behind a whole batch of due ones there may be more.
    if (delayed.kvs.length === dueBatch) nextDueInMs ??= 0;
    return { returned, dead: buried, due, nextDueInMs };
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
    order: KeyValue | null,
    reason: string,
    signal: AbortSignal,
  ): Promise<'ready' | 'dead' | 'dropped' | 'elsewhere'> {
    const { kv, clock } = this.#client;
    const id = claim.key.slice(this.#keys.claim.length);
    const state = readClaimState(claim);
    const token = claim.createRevision;
    const last = state.attempts >= state.attemptsMax;
    const ending: Ending = last
      ? dead({
          reason: `attempt ${state.attempts} of ${state.attemptsMax} failed: ${reason}`,
          deadMs: clock.wallMs(),
        })
      : putBack(token, undefined, (before) => ({ ...before, error: reason }));
    const move = leaving(ending, { kv, keys: this.#keys, id, state, token }, order).if(
      // Not extended since it was read.
      unchanged({ key: claim.key, revision: claim.modRevision }),
      // A claim is never returned behind the back of a worker that has come to life meanwhile.
      ...(reason === workerGone
        ? [compare.createRevision(this.#keys.worker + state.worker, '==', 0n)]
        : []),
    );
    const result = await untilAnswered(this.#client, () => move.commit({ signal }), signal);
    if (!result.succeeded) return 'elsewhere';
    if (last || order !== null) {
      await passOn(this.#client, { keys: this.#keys, state }, result.responses, signal);
    }
    if (order !== null) return 'dropped';
    return last ? 'dead' : 'ready';
  }
}
