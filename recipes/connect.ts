/** The way in: a client whose sessions know the recipes. */
import type { Client, ConnectOptions } from '../sdk/client.ts';
import type { ClusterApi } from '../sdk/cluster.ts';
import { connect as connectClient, knownOptions } from '../sdk/connect.ts';
import { refuseUnknownOptions } from '../sdk/known-options.ts';
import type { Kv } from '../sdk/kv.ts';
import type { Leases } from '../sdk/lease.ts';
import type { SessionOptions } from '../sdk/session.ts';
import { knownSessionOptions } from '../sdk/session-opening.ts';
import { checkFunction, checkOptions } from './common/option-checks.ts';
import { CheckedHealth, type SessionHealthOptions } from './common/session-health.ts';
import { noMetrics, type RecipeMetrics } from './metrics.ts';
import { RecipeSession } from './session.ts';

export type ConclaveOptions = ConnectOptions & {
  /** Where recipes report waits, holds and losses. @default nowhere */
  readonly metrics?: RecipeMetrics;
};

export type RecipeSessionOptions = Omit<SessionOptions, 'bound'> & {
  /**
   * Binds the session to the health of the process: it opens once the check passes, and is lost after
   * `fall` failures in a row, with all that lives by it. What outlives sessions (workers, leader loops,
   * registrations, members) goes on in another one after `rise` passes. @default renewals suffice
   */
  readonly health?: SessionHealthOptions;
};

export class Conclave implements AsyncDisposable {
  /** The client underneath. */
  readonly client: Client;
  readonly #metrics: RecipeMetrics;
  /** What to close; a namespace has none of its own. */
  readonly #sessions: Set<RecipeSession>;
  readonly #parent: Conclave | undefined;

  constructor(client: Client, metrics: RecipeMetrics = noMetrics, parent?: Conclave) {
    this.client = client;
    this.#metrics = metrics;
    this.#parent = parent;
    this.#sessions = parent ? parent.#sessions : new Set();
  }

  get kv(): Kv {
    return this.client.kv;
  }
  get leases(): Leases {
    return this.client.leases;
  }
  get cluster(): ClusterApi {
    return this.client.cluster;
  }

  /**
   * Opens a session: what locks, leaderships, workers and registrations live by.
   *
   * @throws ConclaveError UNREACHABLE, TIMEOUT, ABORTED, SESSION_LOST when the one to `resume` is gone,
   *   INVALID_ARGUMENT
   */
  async session(options: RecipeSessionOptions = {}): Promise<RecipeSession> {
    const { bound: _bound, ...known } = knownSessionOptions;
    checkOptions<RecipeSessionOptions>(options, { ...known, health: true });
    const { health, ...terms } = options;
    const bound = health === undefined ? {} : { bound: new CheckedHealth(this.client, health) };
    const session: RecipeSession = new RecipeSession(
      await this.client.session({ ...terms, ...bound }),
      this.#metrics,
      () => this.#sessions.delete(session),
    );
    this.#sessions.add(session);
    return session;
  }

  /** The same connection, with all keys, those of recipes included, under `prefix`. */
  namespace(prefix: string): Conclave {
    return new Conclave(this.client.namespace(prefix), this.#metrics, this);
  }

  /**
   * Ends what recipes run in the background, then sessions and the connection. Called on a namespace
   * it does nothing. Idempotent; never rejects.
   */
  async close(): Promise<void> {
    if (this.#parent) return;
    await Promise.all([...this.#sessions].map((session) => session.close()));
    await this.client.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Opens a connection.
 *
 * - `connect()` or `connect({ directory })`: a durable store in a directory (`./.conclave`), shared
 *   by all processes of this machine that open the same one.
 * - `connect('host1:2379,host2:2379')` or a list: a cluster, of conclave or of etcd.
 *
 * @throws ConclaveError INVALID_ARGUMENT, UNREACHABLE
 */
export async function connect(
  target: string | readonly string[] | ConclaveOptions = {},
): Promise<Conclave> {
  if (typeof target !== 'object' || target === null || isList(target)) {
    return new Conclave(await connectClient(target));
  }
  refuseUnknownOptions(target, { ...knownOptions, metrics: true });
  const { metrics, ...options } = target;
  checkMetrics(metrics);
  return new Conclave(await connectClient(options), metrics);
}

/** @throws ConclaveError INVALID_ARGUMENT for what would be told of nothing, or not of all */
function checkMetrics(metrics: RecipeMetrics | undefined): void {
  if (metrics === undefined) return;
  for (const name of ['waited', 'held', 'contended', 'lost'] as const) {
    checkFunction(metrics?.[name], `metrics.${name}`);
  }
  if (metrics.counted !== undefined) checkFunction(metrics.counted, 'metrics.counted');
}

const isList = (target: readonly string[] | ConclaveOptions): target is readonly string[] =>
  Array.isArray(target);
