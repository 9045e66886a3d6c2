/** One number in the store, added to by compare-and-swap; each addition counts once. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import { commitOnce } from './commit-once.ts';

export type Addition = {
  /** The key of the op-record. */
  readonly opKey: string;
  readonly lease: bigint;
  readonly delta: bigint;
  /** Op-records that nothing needs any more; they go with the same transaction. */
  readonly spent: readonly string[];
};

export type Added = {
  /** The number right after the addition. */
  readonly sum: bigint;
  /** Whether the op-record may be removed. */
  readonly alone: boolean;
};

type Known = { readonly modRevision: bigint; readonly sum: bigint };

export class Tally {
  readonly key: string;
  readonly #session: Session;
  /** The number when last seen, a guess that the store checks; until then that there is none. */
  #known: Known | undefined;

  constructor(session: Session, key: string) {
    this.#session = session;
    this.key = key;
  }

  /**
   * @returns 'unread' when it was refused because nobody had looked at the number before
   * @throws ConclaveError MISMATCH when the op-record is of another addition; CODEC
   */
  async add(
    { opKey, lease, delta, spent }: Addition,
    signal: AbortSignal | undefined,
  ): Promise<Added | 'conflict' | 'unread'> {
    const isGuess = this.#known === undefined;
    const known = this.#known ?? { modRevision: 0n, sum: 0n };
    const sum = known.sum + delta;
    const outcome = await commitOnce(
      this.#session,
      {
        key: opKey,
        record: `${delta} ${sum}`,
        lease,
        compares: [compare.modRevision(this.key, '==', known.modRevision)],
        writes: [op.put(this.key, `${sum}`), ...spent.map((key) => op.delete(key))],
        reads: [op.get(this.key)],
        fence: false,
      },
      signal,
    );
    if (outcome.kind === 'recorded')
      return { sum: recordedSum(outcome.record, delta), alone: false };
    if (outcome.kind === 'refused') {
      const found = outcome.found[0] ?? null;
      this.#known = { modRevision: found?.modRevision ?? 0n, sum: found ? readNumber(found) : 0n };
      return isGuess ? 'unread' : 'conflict';
    }
    // Additions of one client may be answered out of order: keep the newest.
    if (outcome.revision > (this.#known?.modRevision ?? 0n)) {
      this.#known = { modRevision: outcome.revision, sum };
    }
    return { sum, alone: outcome.alone };
  }
}

const whole = /^-?\d+$/;

/** @throws ConclaveError CODEC when it is no number */
export function readNumber({ key, value }: Pick<KeyValue, 'key' | 'value'>): bigint {
  const written = Buffer.from(value).toString('utf8');
  if (!whole.test(written)) throw new ConclaveError('CODEC', `'${key}' holds no whole number`);
  return BigInt(written);
}

function recordedSum({ key, value }: KeyValue, delta: bigint): bigint {
  const [theirs = '', sum = ''] = Buffer.from(value).toString('utf8').split(' ');
  if (!whole.test(theirs) || !whole.test(sum)) {
    throw new ConclaveError('CODEC', `'${key}' holds no record of an addition`);
  }
  if (BigInt(theirs) !== delta) {
    throw new ConclaveError('MISMATCH', `This opId was used before, to add ${theirs}`, {
      remedy: 'Use a new opId for each addition, and the same one only to repeat it.',
    });
  }
  return BigInt(sum);
}
