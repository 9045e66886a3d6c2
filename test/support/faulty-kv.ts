/**
 * A client whose calls go wrong on request, on top of one that works. Every call asks the plan what
 * becomes of it; calls are also written down, so that tests can count exchanges.
 */
import { map } from 'rxjs';
import type { Client } from '../../sdk/client.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { Key, KeyRange } from '../../sdk/keys.ts';
import type { Kv } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { Operations, Txn, TxnParts, TxnRefusal, TxnResult } from '../../sdk/txn.ts';
import type { Watch, WatchOptions } from '../../sdk/watch.ts';

/**
 * - `pass`: nothing goes wrong.
 * - `lose-answer`: the store does it and the caller never learns.
 * - `refuse`: it never reaches the store.
 * - `linger`: the caller is told that the outcome is unknown, and the call reaches the store later,
 *   when `deliver()` is called.
 */
export type Fate = 'pass' | 'lose-answer' | 'refuse' | 'linger';

export type Call = {
  readonly kind: 'get' | 'list' | 'count' | 'put' | 'delete' | 'txn' | 'wait' | 'watch';
  /** Whether it changes the store when its conditions hold. */
  readonly write: boolean;
  readonly range?: Key | KeyRange;
  readonly parts?: TxnParts;
};

export class Faults {
  /** Decides on each call; tests replace it. */
  plan: (call: Call) => Fate = () => 'pass';
  /** Runs before each call that passes, in its place in time. */
  before: (call: Call) => Promise<void> | void = () => undefined;
  /** Runs after each call that reached the store, before its caller hears of it. */
  after: (call: Call) => Promise<void> | void = () => undefined;
  calls: Call[] = [];
  readonly #lingering: (() => Promise<unknown>)[] = [];

  /** The next calls that match meet this fate; later ones pass. */
  next(fate: Fate, matches: (call: Call) => boolean = ({ write }) => write, times = 1): void {
    let left = times;
    this.plan = (call) => {
      if (left === 0 || !matches(call)) return 'pass';
      left -= 1;
      return fate;
    };
  }

  heal(): void {
    this.plan = () => 'pass';
    this.before = () => undefined;
    this.after = () => undefined;
  }

  /** Lets every lingering call reach the store, whatever comes of it. */
  async deliver(): Promise<void> {
    for (const send of this.#lingering.splice(0)) await send().catch(() => undefined);
  }

  /** What was sent since the last call of this, in order. */
  take(): Call[] {
    return this.calls.splice(0);
  }

  unsent(call: Call): void {
    this.calls = this.calls.filter((other) => other !== call);
  }

  async run<T>(call: Call, send: () => Promise<T>): Promise<T> {
    this.calls.push(call);
    const fate = this.plan(call);
    if (fate === 'refuse') throw new ConclaveError('UNREACHABLE', 'refused by the test');
    if (fate === 'linger') {
      this.#lingering.push(send);
      throw lost();
    }
    await this.before(call);
    const result = await send();
    await this.after(call);
    if (fate === 'lose-answer') throw lost();
    return result;
  }
}

const lost = () => new ConclaveError('OUTCOME_UNKNOWN', 'the answer was lost by the test');

/** The client, its namespaces left alone, with a Kv and sessions under the faults. */
export const faultyClient = (client: Client, faults: Faults): Client => {
  const faulty: Client = Object.create(client, {
    kv: { value: faultyKv(client.kv, faults) },
    // Accessors of a class with private fields must run on the object they belong to.
    leases: { get: () => client.leases },
    cluster: { get: () => client.cluster },
    clock: { get: () => client.clock },
    random: { get: () => client.random },
    events$: { get: () => client.events$ },
    session: {
      value: async (options: Parameters<Client['session']>[0]) =>
        faultySession(await client.session(options), faulty),
    },
    namespace: { value: (prefix: string) => client.namespace(prefix) },
    close: { value: () => client.close() },
  });
  return faulty;
};

/** The session as seen by recipes: its client is the faulty one. */
export const faultySession = (session: Session, client: Client): Session => ({
  client,
  lease: session.lease,
  id: session.id,
  terms: session.terms,
  onSuspend: session.onSuspend,
  meta: session.meta,
  state$: session.state$.pipe(map((state) => state)),
  errors$: session.errors$,
  get ttlMs() {
    return session.ttlMs;
  },
  get state() {
    return session.state;
  },
  get validUntilMs() {
    return session.validUntilMs;
  },
  get signal() {
    return session.signal;
  },
  assertLive: () => session.assertLive(),
  reap: (release) => session.reap(release),
  close: () => session.close(),
  [Symbol.asyncDispose]: () => session.close(),
});

const faultyKv = (kv: Kv, faults: Faults): Kv => ({
  get: (key, options) =>
    faults.run({ kind: 'get', write: false, range: key }, () => kv.get(key, options)),
  getString: (key, options) =>
    faults.run({ kind: 'get', write: false, range: key }, () => kv.getString(key, options)),
  getAs: (key, codec, options) =>
    faults.run({ kind: 'get', write: false, range: key }, () => kv.getAs(key, codec, options)),
  list: (range, options) =>
    faults.run({ kind: 'list', write: false, range }, () => kv.list(range, options)),
  count: (range, options) =>
    faults.run({ kind: 'count', write: false, range }, () => kv.count(range, options)),
  iterate: (range, options) => kv.iterate(range, options),
  put: (key, value, options) =>
    faults.run({ kind: 'put', write: true, range: key }, () => kv.put(key, value, options)),
  delete: (range, options) =>
    faults.run({ kind: 'delete', write: true, range }, () => kv.delete(range, options)),
  txn: () => new FaultyTxn(kv.txn(), faults),
  watch: (range, options) => watched(kv, faults, range, options),
  compact: (revision, options) => kv.compact(revision, options),
});

const watched = (
  kv: Kv,
  faults: Faults,
  range: Key | KeyRange,
  options: WatchOptions | undefined,
): Watch => {
  faults.calls.push({ kind: 'watch', write: false, range });
  return kv.watch(range, options);
};

class FaultyTxn<Then extends Operations, Else extends Operations> implements Txn<Then, Else> {
  readonly #inner: Txn<Then, Else>;
  readonly #faults: Faults;

  constructor(inner: Txn<Then, Else>, faults: Faults) {
    this.#inner = inner;
    this.#faults = faults;
  }

  get parts(): TxnParts {
    return this.#inner.parts;
  }

  if(...compares: Parameters<Txn['if']>): Txn<Then, Else> {
    return new FaultyTxn(this.#inner.if(...compares), this.#faults);
  }

  // biome-ignore lint/suspicious/noThenProperty: the shape of a transaction
  then<const Ops extends Operations>(...operations: Ops): Txn<readonly [...Then, ...Ops], Else> {
    return new FaultyTxn(this.#inner.then(...operations), this.#faults);
  }

  else<const Ops extends Operations>(...operations: Ops): Txn<Then, readonly [...Else, ...Ops]> {
    return new FaultyTxn(this.#inner.else(...operations), this.#faults);
  }

  commit(options?: CallOptions): Promise<TxnResult<Then, Else>> {
    const { parts } = this;
    const write = [...parts.success, ...parts.failure].some(
      ({ kind }) => kind === 'put' || kind === 'delete' || kind === 'txn',
    );
    return this.#faults.run({ kind: 'txn', write, parts }, () => this.#inner.commit(options));
  }

  /** What the store does not offer is no exchange: the client knows without asking. */
  async whenFalse(options?: Pick<CallOptions, 'signal'>): Promise<TxnRefusal<Else>> {
    const call: Call = { kind: 'wait', write: false, parts: this.parts };
    try {
      return await this.#faults.run(call, () => this.#inner.whenFalse(options));
    } catch (error) {
      if (isConclaveError(error, 'UNIMPLEMENTED')) this.#faults.unsent(call);
      throw error;
    }
  }
}
