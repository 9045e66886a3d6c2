/** Additions with their op-records: whose they are, how long they stay, and when they go. */
import { invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { checkOptions } from '../common/option-checks.ts';
import { ResultLease } from '../common/result-lease.ts';
import type { Measured } from '../metrics.ts';
import { escapeName, randomId } from '../names.ts';
import { type Contention, parseRetries, untilUncontended } from './contention.ts';
import { spentAtOnce, spentRecords } from './spent-records.ts';
import type { Tally } from './tally.ts';

export type AdditionOptions = Contention & {
  /** How long an `opId` is remembered at least, even after the session. @default '1h' */
  readonly remember?: Duration;
};

export const knownAdditions = { retries: true, remember: true } as const;

export type AddOptions = {
  /**
   * Names this addition: however often and by whoever it is made, it counts once, as long as the name
   * is remembered. @default a new one for each call
   */
  readonly opId?: string;
  /** Stops trying: rejects with ABORTED, whose `outcome` tells whether it may have counted. */
  readonly signal?: AbortSignal;
};

export class Additions {
  readonly #context: RecipeContext;
  readonly #opPrefix: string;
  readonly #retries: number;
  readonly #remembered: ResultLease;
  readonly #spent: string[];

  /** @param root ends in '/' @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, root: string, options: AdditionOptions) {
    this.#context = context;
    this.#opPrefix = `${root}op/`;
    this.#retries = parseRetries(options);
    const rememberMs = durationOfAtLeast(options.remember ?? '1h', 'remember', '1s');
    this.#remembered = ResultLease.of(context, rememberMs);
    this.#spent = spentRecords(context, root);
  }

  /**
   * @param pick the number to add to, asked anew after each conflict
   * @returns the number right after the addition
   */
  async add(
    delta: bigint,
    options: AddOptions,
    subject: Measured,
    pick: () => Tally,
  ): Promise<bigint> {
    checkOptions<AddOptions>(options, { opId: true, signal: true });
    const { opId, signal } = options;
    if (typeof delta !== 'bigint') throw invalidArgument('delta', delta, 'a bigint');
    const { session } = this.#context;
    const opKey =
      opId === undefined
        ? `${this.#opPrefix}${session.id}-${randomId(session.client.random)}`
        : `${this.#opPrefix}named/${escapeName(opId, 'opId')}`;
    let tally: Tally | undefined;
    return untilUncontended(this.#context, subject, this.#retries, signal, async () => {
      const lease = opId === undefined ? session.lease : await this.#remembered.current(signal);
      const spent = this.#spent.splice(0, spentAtOnce);
      try {
        tally ??= pick();
        const added = await tally.add({ opKey, lease, delta, spent }, signal);
        if (typeof added === 'string') {
          this.#spent.push(...spent);
          if (added === 'conflict') tally = undefined;
          return added;
        }
        if (!added.alone) this.#spent.push(...spent);
        if (added.alone && opId === undefined) this.#spent.push(opKey);
        return added.sum;
      } catch (error) {
        this.#spent.push(...spent);
        if (lease !== session.lease && isConclaveError(error, 'LEASE_NOT_FOUND')) {
          this.#remembered.forget(lease);
          if (error.outcome === 'not-applied') return 'conflict';
        }
        throw error;
      }
    });
  }
}
