/**
 * Service discovery: instances register under a service's name, clients keep a pool of them.
 *
 * Guarantee: an instance is listed for as long as its process renews its session, and for at most the
 * session's TTL longer. What a pool shows may be older than the store; `stale` says when it is not
 * being refreshed. Being listed does not prove that an instance answers.
 */
import { throwIfAborted } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { onAbort } from '../common/signals.ts';
import { escapeName, randomId, servicePrefix } from '../names.ts';
import { type Instance, readInstance } from './instance.ts';
import { Pool } from './pool.ts';
import type { PoolOptions } from './pool-options.ts';
import { checkChange, type RegisterOptions } from './register-options.ts';
import { Registration } from './registration.ts';
import { healthPlan } from './registration-health.ts';

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
    const { address, signal, zone, health, weight = 1 } = options;
    const id = options.id ?? randomId(this.#context.session.client.random);
    const key = this.#prefix + escapeName(id, 'id');
    const data = { address, meta: options.meta as M, weight, zone };
    checkChange(data);
    const plan = health && healthPlan(health);
    const entry = { service: this.service, id, key };
    const registration = new Registration<M>(this.#context, entry, data, plan);
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
  pool(options: PoolOptions<M> = {}): Pool<M> {
    const { service } = this;
    return new Pool<M>(this.#context, { service, prefix: this.#prefix }, options);
  }

  /** The instances now, in the order of their ids. One exchange. */
  async list(): Promise<readonly Instance<M>[]> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return kvs.flatMap((kv) => readInstance<M>(this.#prefix, kv) ?? []);
  }
}
