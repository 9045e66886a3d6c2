/**
 * Runs one membership of a line against a store: turns the effects of `line.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 1 to join and hold a free line; 3 to wait one turn (join, watches, look); 1 to leave.
 */
import { isConclaveError } from '../sdk/errors.ts';
import type { KeyValue } from '../sdk/kv.ts';
import type { Session } from '../sdk/session.ts';
import { compare, op } from '../sdk/txn.ts';
import type { Watch } from '../sdk/watch.ts';
import {
  begin,
  exclusive,
  type LineEffect,
  type LineEnd,
  type LineEvent,
  type LineState,
  type Place,
  type Policy,
  type Step,
  step,
} from './line.ts';
import { goneKey } from './names.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from './repeat.ts';
import { onAbort } from './signals.ts';

export type LineTiming = {
  /**
   * How often a member reads its place again, whatever the watches say: a store that compacted away
   * a delete must not make it wait for ever. @default 15000
   */
  readonly recheckMs: number;
  /** A hold shorter than this does not pay for a watch on its own key. @default 250 */
  readonly ownWatchAfterMs: number;
};

export const lineTiming: LineTiming = { recheckMs: 15_000, ownWatchAfterMs: 250 };

export type Membership = {
  /** Ends in `/`. */
  readonly prefix: string;
  /** Unique among the attempts of the session. */
  readonly attempt: string;
  readonly value: string;
  /** @default one holder, first come, first served */
  readonly policy?: Policy;
  /** How far a look reads: the nearest place ahead, or all of them. @default 'nearest' */
  readonly reach?: 'nearest' | 'all';
  readonly timing?: Partial<LineTiming>;
};

export type Grant = { readonly createRevision: bigint; readonly token: bigint };

/** What an enqueue left behind: a key with this create revision, certainly none, or nobody knows. */
type Joined = bigint | 'absent' | 'unknown';

type Handlers = {
  granted(grant: Grant): void;
  /** Called once, whatever ends the membership. */
  ended(end: LineEnd): void;
};

export class LineMember {
  readonly session: Session;
  readonly key: string;
  readonly #name: string;
  readonly #membership: Membership;
  readonly #timing: LineTiming;
  readonly #handlers: Handlers;
  /** Ends waits, reads and watches; never a write. */
  readonly #calls = new AbortController();
  #state: LineState = { kind: 'joining' };
  #joining: Promise<Joined> = Promise.resolve('absent');
  #aheadWatch: Watch | undefined;
  #ownWatch: Watch | undefined;
  #cancelOwnWatch: () => void = () => undefined;
  #cancelRecheck: () => void = () => undefined;
  #unfollow: () => void = () => undefined;
  #removal: Promise<void> | undefined;

  constructor(session: Session, membership: Membership, handlers: Handlers) {
    this.session = session;
    this.#name = `${session.id}-${membership.attempt}`;
    this.key = membership.prefix + this.#name;
    this.#membership = membership;
    this.#timing = { ...lineTiming, ...membership.timing };
    this.#handlers = handlers;
  }

  get state(): LineState {
    return this.#state;
  }

  start(): void {
    this.#follow();
    this.#advance(begin());
  }

  /** Takes over a place that was created and granted in one exchange, without waiting. */
  adopt(grant: Grant): void {
    this.#follow();
    this.#dispatch({ kind: 'joined', own: grant.createRevision, ahead: [] });
  }

  /**
   * Gives the place up. Resolves when the key is gone; rejects when that could not be confirmed, in
   * which case the session's reaper goes on until it is. Nothing is granted after this call.
   */
  leave(): Promise<void> {
    this.#dispatch({ kind: 'leave' });
    return this.#removal ?? Promise.resolve();
  }

  /**
   * Asks the store whether the own key is still there; the answer may end the membership. For
   * callers that found out by a failed comparison.
   */
  verify(): void {
    this.#dispatch({ kind: 'recheck' });
  }

  #follow(): void {
    this.#unfollow = onAbort(this.session.signal, () => this.#dispatch({ kind: 'session-lost' }));
  }

  #dispatch(event: LineEvent): void {
    // Timers of a frozen process fire late: whatever arrives first after the deadline is the end.
    const expired = this.session.state === 'lost' && event.kind !== 'left';
    const policy = this.#membership.policy ?? exclusive;
    this.#advance(step(policy, this.#state, expired ? { kind: 'session-lost' } : event));
  }

  #advance({ state, effects }: Step): void {
    this.#state = state;
    for (const effect of effects) this.#run(effect);
  }

  #run(effect: LineEffect): void {
    switch (effect.kind) {
      case 'join':
        // Started a little later: whoever gives up at once must find the promise in its place.
        this.#joining = Promise.resolve().then(() => this.#join());
        break;
      case 'look':
        void this.#look(effect.own);
        break;
      case 'watch-ahead':
        void this.#watchAhead(effect.place, effect.from);
        break;
      case 'unwatch-ahead':
        void this.#aheadWatch?.cancel();
        this.#aheadWatch = undefined;
        break;
      case 'watch-own':
        this.#watchOwnAfter(effect.own, effect.soon ? 0 : this.#timing.ownWatchAfterMs);
        break;
      case 'unwatch-own':
        this.#cancelOwnWatch();
        void this.#ownWatch?.cancel();
        break;
      case 'recheck-later':
        this.#recheckLater();
        break;
      case 'cancel-recheck':
        this.#cancelRecheck();
        break;
      case 'granted':
        this.#handlers.granted({ createRevision: effect.own, token: effect.token });
        break;
      case 'withdraw':
        this.#removal = this.#withdraw(effect.own);
        // The caller of leave() handles it; giving up a wait does not.
        this.#removal.catch(() => undefined);
        break;
      case 'ended':
        this.#unfollow();
        this.#calls.abort();
        this.#handlers.ended(effect.end);
        break;
    }
  }

  async #join(): Promise<Joined> {
    const { prefix, value } = this.#membership;
    const { client, lease } = this.session;
    const gone = goneKey(this.#name);
    // `gone` exists only once this attempt was given up with an unknown outcome.
    const txn = client.kv
      .txn()
      .if(compare.createRevision(this.key, '==', 0n), compare.createRevision(gone, '==', 0n))
      .then(op.put(this.key, value, { lease }), op.list({ prefix }, this.#aheadFields()))
      .else(op.get(this.key));
    let joined: Joined = 'absent';
    for (let attempt = 0; this.#state.kind === 'joining'; attempt++) {
      try {
        const result = await txn.commit();
        const own = result.succeeded ? result.revision : result.responses[0]?.createRevision;
        if (result.succeeded) {
          const ahead = result.responses[1].kvs.filter((kv) => kv.key !== this.key).map(place);
          this.#dispatch({ kind: 'joined', own: result.revision, ahead: this.#ordered(ahead) });
        } else if (own !== undefined) {
          this.#dispatch({ kind: 'found', own });
        }
        return own ?? 'absent';
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          this.#dispatch({ kind: 'lease-gone' });
          return 'absent';
        }
        // One lost answer is enough: that enqueue may still be on its way.
        if (!isConclaveError(error) || error.outcome !== 'not-applied') joined = 'unknown';
        if (!mayRepeat(error)) {
          this.#dispatch({ kind: 'refused', error });
          return joined;
        }
      }
      const delayMs = fullJitterMs(attempt, client.random);
      await pause(client.clock, delayMs, this.#calls.signal).catch(() => undefined);
    }
    return joined;
  }

  /** What a look lists: the newest places, of which the own one is the very newest when joining. */
  #aheadFields(own?: bigint) {
    const filter = own === undefined ? {} : { maxCreateRevision: own - 1n };
    if (this.#membership.reach === 'all') return { order: 'create', ...filter } as const;
    const limit = own === undefined ? 2 : 1;
    return { order: 'create', descending: true, limit, ...filter } as const;
  }

  #ordered(ahead: Place[]): Place[] {
    return this.#membership.reach === 'all' ? ahead : ahead.reverse();
  }

  async #look(own: bigint): Promise<void> {
    const { client } = this.session;
    const read = client.kv
      .txn()
      .then(op.get(this.key), op.list({ prefix: this.#membership.prefix }, this.#aheadFields(own)));
    try {
      const { signal } = this.#calls;
      const { responses, revision } = await untilAnswered(
        client,
        () => read.commit({ signal }),
        signal,
      );
      const [self, ahead] = responses as readonly [KeyValue | null, { kvs: readonly KeyValue[] }];
      this.#dispatch({
        kind: 'looked',
        own: self?.createRevision,
        ahead: this.#ordered(ahead.kvs.map(place)),
        revision,
      });
    } catch {
      // Ended meanwhile, or the store refuses to be read: try again at the slow pace.
      if (!this.#calls.signal.aborted) this.#relookLater(own);
    }
  }

  #relookLater(own: bigint): void {
    this.#cancelRecheck();
    this.#cancelRecheck = this.session.client.clock.setTimer(this.#recheckDelayMs(), () => {
      void this.#look(own);
    });
  }

  async #watchAhead(ahead: Place, from: bigint): Promise<void> {
    void this.#aheadWatch?.cancel();
    const watch = this.session.client.kv.watch(ahead.key, { from, puts: false });
    this.#aheadWatch = watch;
    await this.#untilGone(watch, ahead.createRevision);
    // Gone, or the watch failed: either way only a fresh look can tell what comes next.
    if (this.#aheadWatch === watch) this.#dispatch({ kind: 'ahead-gone', place: ahead });
  }

  #watchOwnAfter(own: bigint, delayMs: number): void {
    if (this.#ownWatch !== undefined) return;
    this.#cancelOwnWatch();
    if (delayMs === 0) {
      void this.#watchOwn(own);
      return;
    }
    this.#cancelOwnWatch = this.session.client.clock.setTimer(delayMs, () => {
      void this.#watchOwn(own);
    });
  }

  async #watchOwn(own: bigint): Promise<void> {
    while (!this.#calls.signal.aborted) {
      const watch = this.session.client.kv.watch(this.key, { from: own + 1n, puts: false });
      this.#ownWatch = watch;
      const gone = await this.#untilGone(watch, own);
      if (gone) this.#dispatch({ kind: 'own-gone' });
    }
  }

  /**
   * Follows one key until it is deleted (true) or the watch ends otherwise (false, after a pause,
   * so that a store that refuses watches is not flooded).
   */
  async #untilGone(watch: Watch, createRevision: bigint): Promise<boolean> {
    try {
      for await (const notice of watch) {
        if (notice.type === 'events') return true;
        // Compaction passed the watch: the listing says whether it is still the same key.
        if (notice.type === 'reset' && notice.kvs[0]?.createRevision !== createRevision) {
          return true;
        }
      }
    } catch {
      // Told apart below: the slow re-read covers what a broken watch would have reported.
    }
    const { client } = this.session;
    const delayMs = this.#recheckDelayMs() / 10;
    await pause(client.clock, delayMs, this.#calls.signal).catch(() => undefined);
    return false;
  }

  #recheckLater(): void {
    this.#cancelRecheck();
    this.#cancelRecheck = this.session.client.clock.setTimer(this.#recheckDelayMs(), () =>
      this.#dispatch({ kind: 'recheck' }),
    );
  }

  #recheckDelayMs(): number {
    return this.#timing.recheckMs * (0.75 + 0.5 * this.session.client.random());
  }

  async #withdraw(own: bigint | undefined): Promise<void> {
    this.#calls.abort();
    // An enqueue under way is left to finish: its answer is cheaper than a lasting mark.
    const joined = own ?? (await this.#joining);
    try {
      if (joined !== 'absent') await this.#remove(joined);
    } catch (error) {
      if (joined !== 'absent') this.session.reap(() => this.#remove(joined));
      throw error;
    } finally {
      this.#dispatch({ kind: 'left' });
    }
  }

  /** Idempotent; true when the key is gone for good. */
  async #remove(own: bigint | 'unknown'): Promise<boolean> {
    const { client, lease } = this.session;
    const txn = client.kv.txn();
    try {
      if (own !== 'unknown') {
        await txn
          .if(compare.createRevision(this.key, '==', own))
          .then(op.delete(this.key))
          .commit();
      } else {
        // The enqueue may still be under way to the store; from here on it fails its comparison.
        await txn.then(op.put(goneKey(this.#name), '', { lease }), op.delete(this.key)).commit();
      }
    } catch (error) {
      // No lease, no key: neither now nor later.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    return true;
  }
}

const place = (kv: KeyValue): Place => ({
  key: kv.key,
  createRevision: kv.createRevision,
  value: kv.value,
});
