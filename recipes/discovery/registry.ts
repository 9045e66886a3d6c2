/**
 * Service discovery: instances register under a service's name, clients keep a pool of them.
 *
 * Guarantee: an instance is listed for as long as its process renews its session, and for at most the
 * session's TTL longer. What a pool shows may be older than the store; `stale` says when it is not
 * being refreshed. Being listed does not prove that an instance answers.
 */
import { invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { onAbort } from '../common/signals.ts';
import { escapeName, randomId, servicePrefix } from '../names.ts';
import { type Instance, readInstance } from './instance.ts';
import { Pool, type PoolOptions } from './pool.ts';
import { Registration } from './registration.ts';

export type RegisterOptions<M> = {
  /** Must differ between instances; registering an id again replaces the earlier one. @default random */
  readonly id?: string;
  /** Where clients reach the instance. Register after listening. */
  readonly address: string;
  /** Relative share of work, for strategies that honour it. @default 1 */
  readonly weight?: number;
  /** Gives up waiting for the store: rejects with ABORTED, and nothing is registered. */
  readonly signal?: AbortSignal;
} & (undefined extends M ? { readonly meta?: M } : { /** As JSON. */ readonly meta: M });

export class Discovery<M> {
  readonly service: string;
  readonly #context: RecipeContext;
  readonly #prefix: string;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, service: string) {
    this.service = service;
    this.#context = context;
    this.#prefix = servicePrefix(service);
  }

  /**
   * Lists this instance; resolves when the store has it. It stays listed, over lost sessions too,
   * until it is deregistered or the session this was made from is closed.
   *
   * @throws ConclaveError INVALID_ARGUMENT, ABORTED, PERMISSION_DENIED, TOO_LARGE, NO_SPACE
   */
  async register(options: RegisterOptions<M>): Promise<Registration<M>> {
    const { address, signal, weight = 1 } = options;
    const id = options.id ?? randomId(this.#context.session.client.random);
    const key = this.#prefix + escapeName(id, 'id');
    if (typeof address !== 'string' || address === '') {
      throw invalidArgument('address', address, 'a text, not empty');
    }
    checkWeight(weight);
    const entry = { service: this.service, id, key };
    const data = { address, meta: options.meta as M, weight, status: 'up' } as const;
    const registration = new Registration<M>(this.#context, entry, data);
    throwIfAborted(signal);
    const stopListening = onAbort(signal, () => void registration.deregister());
    try {
      await registration.start();
      return registration;
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    } finally {
      stopListening();
    }
  }

  /** A view of the instances that stays current until it is closed. */
  pool(options: PoolOptions = {}): Pool<M> {
    return new Pool<M>(this.#context, this.#prefix, options);
  }

  /** The instances now, in the order of their ids. One exchange. */
  async list(): Promise<readonly Instance<M>[]> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return kvs.flatMap((kv) => readInstance<M>(this.#prefix, kv) ?? []);
  }
}

export function checkWeight(weight: number): void {
  if (!(Number.isFinite(weight) && weight >= 0)) {
    throw invalidArgument('weight', weight, 'a number of at least 0');
  }
}
