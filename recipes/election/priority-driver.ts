/**
 * Runs one candidacy by priority against a store: turns the effects of `priority.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 1 to stand and lead when nobody else does; 2 to be handed the leadership (stand, watch),
 * one more to fill a vacancy; 1 to go on from a former term; 1 to resign or to hand over.
 */
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import type { PrefixView } from '../common/prefix-view.ts';
import {
  closingPatienceMs,
  fullJitterMs,
  mayRepeat,
  pause,
  untilAnswered,
} from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import type { HeldMember } from '../line/holding.ts';
import type { LineEnd } from '../line/line.ts';
import type { Grant } from '../line/line-driver.ts';
import { goneKey } from '../names.ts';
import { memberNamed, nextAfter, rollOf, standingsOf } from './candidates.ts';
import { byKey, ElectionView } from './election-view.ts';
import {
  begin,
  type PriorityEffect,
  type PriorityEvent,
  type PriorityState,
  type Step,
  step,
} from './priority.ts';
import {
  type Candidacy,
  enter,
  type Heir,
  pass,
  remove,
  succeed,
  take,
} from './priority-writes.ts';
import { type Standing, turnMs } from './standing.ts';

type Handlers = {
  /** The member could not lead at once. */
  waits(): void;
  granted(grant: Grant): void;
  /** This candidate outranks the leader, and has asked for long enough; undefined: nobody does now. */
  asked(candidate: KeyValue | undefined): void;
  /** Called once, whatever ends the candidacy. */
  ended(end: LineEnd): void;
};

/** What an enqueue left behind: a key with this create revision, certainly none, or nobody knows. */
type Joined = bigint | 'absent' | 'unknown';

export class PriorityMember implements HeldMember {
  readonly session: Session;
  readonly key: string;
  readonly #standing: Standing;
  readonly #candidacy: Candidacy;
  readonly #handlers: Handlers;
  /** Ends waits, reads and watches; never a write. */
  readonly #calls = new AbortController();
  #state: PriorityState = { kind: 'joining' };
  #hasWaited = false;
  #joining: Promise<Joined> = Promise.resolve('absent');
  /** Copies of the enqueue that may still be on their way. */
  #lingering = 0;
  readonly #view: ElectionView;
  #isAdmitted = false;
  #own: bigint | 'unknown' = 'unknown';
  #heir: Heir | undefined;
  #passedTo: string | undefined;
  #termIsOver = false;
  #cancelTurn: () => void = () => undefined;
  #cancelWeighing: () => void = () => undefined;
  #unlisten: () => void = () => undefined;
  #removal: Promise<void> | undefined;

  constructor(session: Session, standing: Standing, handlers: Handlers) {
    const { keys, attempt, preferred } = standing;
    const member = `${session.id}-${attempt}`;
    this.session = session;
    this.key = keys.prefix + member;
    this.#standing = standing;
    this.#candidacy = { keys, member, key: this.key, lease: session.lease, preferred };
    this.#handlers = handlers;
    this.#view = new ElectionView({
      client: session.client,
      prefix: keys.prefix,
      recheckMs: standing.timing.recheckMs,
      signal: this.#calls.signal,
      onView: (view, rewound) => this.#saw(view, rewound),
    });
  }

  /** The key of the candidate that the leadership was handed to. */
  get passedTo(): string | undefined {
    return this.#passedTo;
  }

  /** The leader key was found removed or rewritten when the leadership was to be handed over. */
  get termIsOver(): boolean {
    return this.#termIsOver;
  }

  start(): void {
    this.#unlisten = onAbort(this.session.signal, () => this.#dispatch({ kind: 'session-lost' }));
    this.#advance(begin());
  }

  /**
   * Gives the candidacy up, and hands the leadership to whoever ranks next. Resolves when that is done;
   * rejects when it could not be confirmed, in which case the session's reaper goes on until the keys
   * are gone. Nothing is granted after this call.
   */
  leave(): Promise<void> {
    this.#dispatch({ kind: 'leave' });
    return this.#removal ?? Promise.resolve();
  }

  /** Who is to lead next when this member leaves, in place of whoever ranks next. */
  nominate(heir: Heir): void {
    this.#heir = heir;
  }

  /** Reads the election; the answer may end the membership. */
  verify(): void {
    void this.#view.look();
  }

  #dispatch(event: PriorityEvent): void {
    // Timers of a frozen process fire late: whatever arrives first after the deadline is the end.
    const expired = this.session.state === 'lost' && event.kind !== 'left';
    this.#advance(step(this.key, this.#state, expired ? { kind: 'session-lost' } : event));
  }

  #advance({ state, effects }: Step): void {
    this.#state = state;
    if (state.kind === 'waiting' && !this.#hasWaited) {
      this.#hasWaited = true;
      this.#handlers.waits();
    }
    for (const effect of effects) this.#run(effect);
  }

  #run(effect: PriorityEffect): void {
    const { timing } = this.#standing;
    const { random } = this.session.client;
    switch (effect.kind) {
      case 'join':
        // Started a little later: whoever gives up at once must find the promise in its place.
        this.#joining = Promise.resolve().then(() => this.#join());
        break;
      case 'look':
        void this.#view.look();
        break;
      case 'follow':
        this.#view.follow(effect.soon ? 0 : timing.followAfterMs);
        break;
      case 'wait-turn':
        this.#cancelTurn();
        this.#cancelTurn = this.#after(turnMs(timing, effect.above, random), { kind: 'due' });
        break;
      case 'cancel-turn':
        this.#cancelTurn();
        break;
      case 'take':
        void this.#take(effect.own);
        break;
      case 'granted':
        this.#handlers.granted({ createRevision: effect.own, token: effect.term });
        break;
      case 'weigh': {
        const { key } = effect.rival;
        this.#dropRequest();
        this.#cancelWeighing = this.#after(timing.preemptAfterMs, {
          kind: 'ripe',
          key,
        });
        break;
      }
      case 'cancel-weighing':
        this.#dropRequest();
        break;
      case 'asked': {
        const candidate = this.#view.current.entries.get(effect.key);
        if (candidate) this.#handlers.asked(candidate);
        break;
      }
      case 'withdraw':
        this.#removal = this.#withdraw(effect.own, effect.term);
        // The caller of leave() handles it; giving up a wait does not.
        this.#removal.catch(() => undefined);
        break;
      case 'ended':
        this.#ended(effect.end);
        break;
    }
  }

  /** Whoever looks later is not told of a candidate that has gone. */
  #dropRequest(): void {
    this.#cancelWeighing();
    this.#handlers.asked(undefined);
  }

  async #join(): Promise<Joined> {
    const { client } = this.session;
    const { value, former } = this.#standing;
    const txn = former
      ? succeed(client.kv, this.#candidacy, value, former)
      : enter(client.kv, this.#candidacy, value);
    let joined: Joined = 'absent';
    for (let attempt = 0; this.#state.kind === 'joining'; attempt++) {
      try {
        const result = await txn.commit();
        if (result.succeeded) {
          const listed = result.responses.at(-1) as ListResult;
          this.#entered({ revision: result.revision, entries: byKey(listed.kvs) });
          return result.revision;
        }
        const own = result.responses[0]?.createRevision;
        if (own === undefined) {
          if (former) this.#dispatch({ kind: 'refused', error: former.over() });
          return 'absent';
        }
        // One of the copies has arrived.
        this.#lingering -= 1;
        this.#own = own;
        this.#dispatch({ kind: 'found', own });
        return own;
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          this.#dispatch({ kind: 'lease-gone' });
          return 'absent';
        }
        // One lost answer is enough: that enqueue may still be on its way.
        if (!isConclaveError(error) || error.outcome !== 'not-applied') {
          joined = 'unknown';
          this.#lingering += 1;
        }
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

  #entered(view: PrefixView): void {
    this.#own = view.revision;
    this.#view.adopt(view);
    if (this.#admits(view)) this.#dispatch({ kind: 'joined', roll: this.#roll(view) });
  }

  /** The first view may show that this member has no business here. */
  #admits({ entries }: PrefixView): boolean {
    if (this.#isAdmitted || this.#own === 'unknown') return true;
    this.#isAdmitted = true;
    const { contenders } = standingsOf(this.#standing.keys, entries.values());
    if (contenders.every(({ priority }) => priority !== undefined)) return true;
    this.#refuse(this.#standing.mismatch(), this.#own);
    return false;
  }

  #refuse(error: unknown, own: bigint): void {
    const { kind } = this.#state;
    // One that leads by now, as the watch has told, keeps its keys.
    if (kind === 'held' || kind === 'leaving' || kind === 'out') return;
    this.#dispatch({ kind: 'refused', error });
    this.session.reap(() => this.#remove(own));
  }

  #saw(view: PrefixView, rewound: boolean): void {
    if (this.#admits(view)) this.#dispatch({ kind: 'saw', roll: this.#roll(view, rewound) });
  }

  #roll(view: PrefixView, rewound = false) {
    return rollOf(this.#standing.keys, this.key, view, rewound);
  }

  #after(delayMs: number, event: PriorityEvent): () => void {
    return this.session.client.clock.setTimer(delayMs, () => this.#dispatch(event));
  }

  async #take(own: bigint): Promise<void> {
    const { client } = this.session;
    const { signal } = this.#calls;
    const txn = take(client.kv, this.#candidacy, own);
    try {
      const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
      if (result.succeeded) {
        this.#view.learn(result.revision);
        this.#dispatch({ kind: 'took', term: result.revision });
        return;
      }
      const [leader, self] = result.responses;
      if (self?.createRevision !== own || leader === null) this.#dispatch({ kind: 'own-gone' });
      // An attempt whose answer was lost did take effect, or the leader before handed over.
      else if (memberNamed(leader) === this.#candidacy.member) {
        this.#dispatch({ kind: 'took', term: leader.modRevision });
      } else this.#dispatch({ kind: 'beaten', term: leader.modRevision });
    } catch (error) {
      if (isConclaveError(error, 'LEASE_NOT_FOUND')) this.#dispatch({ kind: 'lease-gone' });
      else if (!signal.aborted) this.#refuse(error, own);
    }
  }

  async #withdraw(own: bigint | undefined, term: bigint | undefined): Promise<void> {
    this.#calls.abort();
    this.#cancelAll();
    // An enqueue under way is left to finish: its answer is cheaper than a lasting mark.
    const joined = own ?? (await this.#joining);
    try {
      if (joined === 'absent') return;
      if (joined !== 'unknown' && term !== undefined && (await this.#pass(term))) return;
      await this.#remove(joined);
    } catch (error) {
      if (joined !== 'absent') this.session.reap(() => this.#remove(joined));
      throw error;
    } finally {
      this.#dispatch({ kind: 'left' });
    }
  }

  /** Hands the leadership over. False when there is nobody to hand it to, or it is gone already. */
  async #pass(term: bigint): Promise<boolean> {
    const { client } = this.session;
    const { keys } = this.#standing;
    let heir = this.#heir ?? nextAfter(keys, this.key, this.#view.current);
    if (heir === undefined) return false;
    await this.#markGone();
    const untilMs = client.clock.monotonicMs() + closingPatienceMs;
    let mayHavePassed = false;
    for (let attempt = 0; heir !== undefined; attempt++) {
      try {
        const result = await pass(client.kv, this.#candidacy, term, heir).commit();
        const entries = result.succeeded ? undefined : byKey(result.responses[0].kvs);
        // An attempt whose answer was lost did it.
        if (entries === undefined || (mayHavePassed && !entries.has(this.key))) {
          this.#passedTo = heir.key;
          return true;
        }
        this.#termIsOver = entries.get(keys.leader)?.modRevision !== term;
        if (this.#termIsOver) return false;
        heir = nextAfter(keys, this.key, { revision: result.revision, entries });
        continue;
      } catch (error) {
        if (isConclaveError(error) && error.outcome === 'unknown') mayHavePassed = true;
        if (!mayRepeat(error) || client.clock.monotonicMs() >= untilMs) throw error;
      }
      await pause(client.clock, fullJitterMs(attempt, client.random), this.session.signal);
    }
    return false;
  }

  /** A copy of the enqueue that arrives after the delete must find that its time is over. */
  async #markGone(): Promise<void> {
    if (this.#lingering === 0) return;
    const { member, lease } = this.#candidacy;
    await this.session.client.kv.put(goneKey(member), '', { lease });
  }

  /** Idempotent; true when the keys are gone for good. */
  async #remove(own: bigint | 'unknown'): Promise<boolean> {
    try {
      if (own !== 'unknown') await this.#markGone();
      await remove(this.session.client.kv, this.#candidacy, own).commit();
    } catch (error) {
      // No lease, no key: neither now nor later.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    return true;
  }

  #ended(end: LineEnd): void {
    this.#unlisten();
    this.#cancelAll();
    this.#calls.abort();
    // Whichever of its keys is gone, the others must not stand in anybody's way.
    if (end.kind === 'place-lost') this.session.reap(() => this.#remove(this.#own));
    this.#handlers.ended(end);
  }

  #cancelAll(): void {
    this.#view.stop();
    this.#cancelTurn();
    this.#cancelWeighing();
  }
}
