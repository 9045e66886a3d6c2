/**
 * Moves the position of a durable subscription, on behalf of its one active consumer: forward only,
 * and only while that is the active one. Acknowledgements that come while one is under way share the
 * next.
 */
import { aborted, ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { unlessAborted } from '../common/signals.ts';
import type { Holding } from '../line/holding.ts';
import { type Position, readPosition, writePosition } from './position.ts';
import { roleLost } from './role.ts';

export class Acknowledgements {
  readonly #name: string;
  readonly #holding: Holding;
  readonly #key: string;
  #position: Position;
  #wanted: bigint;
  #moving: Promise<void> | undefined;
  readonly #forgotten = new AbortController();

  /** @param key of the position */
  constructor(name: string, holding: Holding, key: string, position: Position) {
    this.#name = name;
    this.#holding = holding;
    this.#key = key;
    this.#position = position;
    this.#wanted = position.at;
  }

  /** Aborts when the position is found to be gone, while the consumer is the active one still. */
  get forgotten(): AbortSignal {
    return this.#forgotten.signal;
  }

  /** How far the position is known to have come. */
  get at(): bigint {
    return this.#position.at;
  }

  /** @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED, ABORTED */
  async ack(revision: bigint, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) throw aborted(signal);
    if (this.forgotten.aborted) throw this.forgotten.reason;
    if (revision > this.#wanted) this.#wanted = revision;
    while (this.#position.at < revision) {
      this.#moving ??= this.#move(this.#wanted).finally(() => {
        this.#moving = undefined;
      });
      await unlessGivenUp(this.#moving, signal);
    }
  }

  async #move(to: bigint): Promise<void> {
    const { client } = this.#holding.session;
    const { signal } = this.#holding;
    let isUnsure = false;
    const commit = async () => {
      const guarded = this.#holding
        .guard(client.kv.txn().if(compare.modRevision(this.#key, '==', this.#position.modRevision)))
        .then(op.put(this.#key, writePosition(to)))
        .else(op.get(this.#key), op.get(this.#holding.key));
      try {
        return await guarded.commit({ signal });
      } catch (error) {
        if (!isConclaveError(error) || error.outcome !== 'not-applied') isUnsure = true;
        throw error;
      }
    };
    try {
      for (;;) {
        const result = await untilAnswered(client, commit, signal);
        if (result.succeeded) {
          this.#position = { at: to, modRevision: result.revision };
          return;
        }
        const [found, own] = result.responses;
        if (own?.createRevision !== this.#holding.createRevision) {
          this.#holding.verify();
          throw roleLost(this.#name, undefined);
        }
        if (found === null) {
          const message = `The subscription '${this.#name}' was forgotten, and begins anew`;
          this.#forgotten.abort(new ConclaveError('CLAIM_LOST', message));
          throw this.forgotten.reason;
        }
        // Nobody else writes it: an attempt whose answer was lost did, or an operator.
        this.#position = readPosition(found);
        if (this.#position.at >= to) return;
      }
    } catch (error) {
      const reason = signal.aborted ? roleLost(this.#name, signal.reason) : error;
      const known = isConclaveError(reason, 'LOCK_LOST') ? roleLost(this.#name, reason) : reason;
      if (!isUnsure || !isConclaveError(known)) throw known;
      throw new ConclaveError(known.code, known.message, { cause: error, outcome: 'unknown' });
    }
  }
}

/** The move goes on for others who wait for it. */
async function unlessGivenUp(move: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  try {
    await unlessAborted(move, signal);
  } catch (error) {
    throw signal?.aborted && isConclaveError(error, 'ABORTED') ? aborted(signal, 'unknown') : error;
  }
}
