/**
 * Service discovery: instances register under a service's name, clients keep a pool of them.
 *
 * Guarantee: an instance is listed for as long as its process renews its session, and for at most the
 * session's TTL longer. What a pool shows may be older than the store; `stale` says when it is not
 * being refreshed. Being listed does not prove that an instance answers.
 */
import type { Codec } from '../../sdk/codec.ts';
import { throwIfAborted } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkCodec, checkOptions } from '../common/option-checks.ts';
import { onAbort } from '../common/signals.ts';
import { withinTime } from '../common/time-limit.ts';
import { escapeName, randomId, servicePrefix } from '../names.ts';
import { type Instance, metaRecord, readInstance, type ServicePlace } from './instance.ts';
import { Pool } from './pool.ts';
import type { PoolOptions } from './pool-options.ts';
import { checkChange, checkRegistering, type RegisterOptions } from './register-options.ts';
import { Registration } from './registration.ts';
import { healthPlan } from './registration-health.ts';

export type DiscoveryOptions<M> = {
  /** How metadata is written, the same for all clients of the service. @default JSON */
  readonly codec?: Codec<M>;
};

export class Discovery<M> {
  readonly service: string;
  readonly #context: RecipeContext;
  readonly #place: ServicePlace<M>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, service: string, options: DiscoveryOptions<M> = {}) {
    checkOptions<DiscoveryOptions<M>>(options, { codec: true });
    const { codec } = options;
    if (codec !== undefined) checkCodec(codec);
    this.service = service;
    this.#context = context;
    this.#place = { service, prefix: servicePrefix(service), codec };
  }

  /**
   * Lists this instance; resolves when the store has it. It stays listed, over lost sessions too,
   * until it is deregistered or the session this was made from is closed.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, ABORTED, TIMEOUT, PERMISSION_DENIED, TOO_LARGE,
   *   NO_SPACE
   */
  async register(options: RegisterOptions<M>): Promise<Registration<M>> {
    checkRegistering(options);
    const { address, zone, health, weight = 1 } = options;
    const { client } = this.#context.session;
    const { service, prefix, codec } = this.#place;
    const id = options.id ?? randomId(client.random);
    const key = prefix + escapeName(id, 'id');
    const data = { address, meta: options.meta as M, weight, zone };
    checkChange(data);
    // What cannot be written is told now.
    metaRecord(data.meta, codec);
    const plan = health === undefined ? undefined : healthPlan(health);
    const entry = { service, id, key, codec };
    const registration = new Registration<M>(this.#context, entry, data, plan);
    const what = `The registration of '${id}' in service '${service}'`;
    return withinTime(client.clock, options, what, (signal) => this.#start(registration, signal));
  }

  /** A view of the instances that stays current until it is closed. */
  pool(options: PoolOptions<M> = {}): Pool<M> {
    return new Pool<M>(this.#context, this.#place, options);
  }

  /** The instances now, in the order of their ids. One exchange. */
  async list(): Promise<readonly Instance<M>[]> {
    const { prefix, codec } = this.#place;
    const { kvs } = await this.#context.session.client.kv.list({ prefix });
    return kvs.flatMap((kv) => readInstance<M>(prefix, kv, codec) ?? []);
  }

  async #start(
    registration: Registration<M>,
    signal: AbortSignal | undefined,
  ): Promise<Registration<M>> {
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
}
