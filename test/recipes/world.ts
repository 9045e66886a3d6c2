/** Sessions of several processes, as it were, on one store: each has a connection and faults of its own. */
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll } from 'vitest';
import type { Background, RecipeContext } from '../../recipes/common/context.ts';
import { noMetrics, type RecipeMetrics } from '../../recipes/metrics.ts';
import type { Client } from '../../sdk/client.ts';
import { type Clock, systemClock } from '../../sdk/clock.ts';
import { connect, connectOver } from '../../sdk/connect.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { Kv } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { Operations, Txn } from '../../sdk/txn.ts';
import type { WatchOptions } from '../../sdk/watch.ts';
import { Faults, faultyClient } from '../support/faulty-kv.ts';
import { type StoreUse, useStore } from '../support/store.ts';
import { storeSystem } from '../support/store-choice.ts';
import { waitFor } from '../support/wait.ts';

export type ActorOptions = {
  readonly ttl?: Duration;
  readonly lockDelay?: Duration;
  readonly onSuspend?: 'stop' | 'continue';
  readonly clock?: Clock;
  readonly metrics?: RecipeMetrics;
  readonly meta?: Readonly<Record<string, string>>;
};

export class Actor {
  readonly client: Client;
  readonly faults: Faults;
  readonly session: Session;
  readonly context: RecipeContext;

  constructor(client: Client, faults: Faults, session: Session, metrics: RecipeMetrics) {
    this.client = client;
    this.faults = faults;
    this.session = session;
    this.context = { session, metrics, background: new Set<Background>() };
  }

  /** The same connection and faults with another session. */
  async another(options: ActorOptions = {}): Promise<Actor> {
    const session = await this.client.session({ ttl: options.ttl ?? '30s' });
    return new Actor(this.client, this.faults, session, options.metrics ?? noMetrics);
  }

  /** Somebody else ends the session's lease; the store knows before the session does. */
  killLease(): Promise<void> {
    return this.client.leases.revoke(this.session.lease);
  }

  async close(): Promise<void> {
    this.faults.heal();
    await Promise.allSettled([...this.context.background].map((part) => part.close()));
    await this.session.close();
  }
}

export type World = {
  /** Looks at the store and changes it by hand; no faults. */
  readonly operator: () => Client;
  /** host:port of one member of the store. */
  readonly endpoint: () => string;
  /** host:port of each member, another one first for each client: clients try them in this order. */
  readonly endpoints: () => readonly string[];
  actor(options?: ActorOptions): Promise<Actor>;
  /** A name that no other test uses, in this run or another on the same store. */
  readonly name: (what?: string) => string;
};

const run = randomBytes(4).toString('hex');
let names = 0;

/** One store for the tests of a file; actors live for one test. */
export const useWorld = (use: StoreUse = useStore): World => {
  const { store } = use();
  let operator: Client | undefined;
  let connected = 0;
  const endpoints = (): readonly string[] => {
    const all = store().endpoints;
    const first = connected % all.length;
    connected += 1;
    return [...all.slice(first), ...all.slice(0, first)];
  };
  const cleanups: (() => Promise<void>)[] = [];
  beforeAll(async () => {
    operator = await connect({ endpoints: endpoints() });
  });
  afterEach(async () => {
    await Promise.allSettled(cleanups.splice(0).map((cleanup) => cleanup()));
  });
  afterAll(() => operator?.close());
  return {
    operator: () => {
      if (operator === undefined) throw new Error('the store has not started');
      return operator;
    },
    endpoint: () => store().endpoint,
    endpoints,
    actor: async (options = {}) => {
      const { clock, ttl = '30s', metrics = noMetrics, onSuspend, lockDelay, meta } = options;
      const real = await connectOver(
        { connectionClock: systemClock },
        { endpoints: endpoints(), ...(clock === undefined ? {} : { clock }) },
      );
      const faults = new Faults();
      const client = faultyClient(real, faults);
      const session = await client.session({
        ttl,
        ...(onSuspend === undefined ? {} : { onSuspend }),
        ...(lockDelay === undefined ? {} : { lockDelay }),
        ...(meta === undefined ? {} : { meta }),
      });
      const actor = new Actor(client, faults, session, metrics);
      cleanups.push(async () => {
        await actor.close();
        await real.close();
      });
      return actor;
    },
    name: (what = 'test') => {
      names += 1;
      return `${what}/${run}-${names}`;
    },
  };
};

/** The actor's context with watches that never report anything. */
export function deafContext({ client, session, context }: Actor): RecipeContext {
  const deaf = Object.create(client, {
    kv: { value: { ...client.kv, watch: silentWatch, txn: () => deafTxn(client.kv.txn()) } },
  });
  return { ...context, session: Object.create(session, { client: { value: deaf } }) };
}

const deafTxn = <Then extends Operations, Else extends Operations>(
  txn: Txn<Then, Else>,
): Txn<Then, Else> => ({
  parts: txn.parts,
  if: (...compares) => deafTxn(txn.if(...compares)),
  // biome-ignore lint/suspicious/noThenProperty: the shape of a transaction
  then: (...operations) => deafTxn(txn.then(...operations)),
  else: (...operations) => deafTxn(txn.else(...operations)),
  commit: (options) => txn.commit(options),
  whenFalse: () => new Promise(() => undefined),
});

function silentWatch(_range: unknown, options: WatchOptions = {}) {
  let end: () => void = () => undefined;
  const ended = new Promise<IteratorResult<never>>((resolve) => {
    end = () => resolve({ done: true, value: undefined });
  });
  options.signal?.addEventListener('abort', () => end(), { once: true });
  return {
    created: Promise.resolve({ revision: 0n }),
    cancel: async () => end(),
    [Symbol.asyncIterator]: () => ({ next: () => ended }),
  };
}

/** What it takes a member of a line to wait, and then to look: conclave tells it both in one answer. */
export const turnCosts =
  storeSystem === 'conclave'
    ? ({ wait: ['wait'], look: [] } as const)
    : ({ wait: ['watch', 'watch'], look: ['txn'] } as const);

/** Compacts up to a revision, unless somebody else has compacted further by then. */
export const compactTo = async (kv: Kv, revision: bigint): Promise<void> => {
  await kv.compact(revision).catch((error: unknown) => {
    if (!isConclaveError(error, 'COMPACTED')) throw error;
  });
};

/** Lets everything that is ready to run do so, a few times over. */
export const settle = async (turns = 20): Promise<void> => {
  for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** Just short of the time that a test has, so that what did not happen is named. */
const patienceMs = 25_000;

export const eventually = (what: string, condition: () => Promise<boolean> | boolean) =>
  waitFor(what, async () => ((await condition()) ? true : undefined), { timeoutMs: patienceMs });
