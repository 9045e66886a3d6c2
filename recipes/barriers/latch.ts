/**
 * A countdown latch: it opens once so many have arrived, and stays open until somebody resets it.
 *
 * An arrival has an id, and each id counts once, whoever repeats it and however often. An arrival is a
 * fact: it stands after the session that made it has ended.
 */
import { aborted, ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions } from '../common/option-checks.ts';
import { patienceOf } from '../common/patience.ts';
import { untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import { sessionLost } from '../line/holding.ts';
import { inLineOrder, type Meta, shownMeta } from '../line/line-record.ts';
import type { ContentionKind } from '../metrics.ts';
import { escapeName, latchPrefix, randomId } from '../names.ts';
import {
  defaultRecheckMs,
  type KeyView,
  knownWaitOptions,
  type WaitBarrierOptions,
  waitForKey,
} from './key-wait.ts';
import {
  type Arrival,
  decodeArrival,
  decodeGate,
  decodeTally,
  encodeArrival,
  encodeGate,
  encodeTally,
  firstGate,
  isOpen,
  type LatchGate,
  nonceOf,
  roundKeys,
} from './latch-record.ts';

export type LatchOptions = {
  /** How many have to arrive: 1 to a million. The same for all clients. */
  readonly count: number;
  /** How often a waiter looks at the latch again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type ArriveOptions = {
  /** Shown to others beside the session's own meta. */
  readonly meta?: Meta;
  /** Stops trying: rejects with ABORTED, whose `outcome` tells whether it may have counted. */
  readonly signal?: AbortSignal;
};

export type Arrived = {
  /** Whether this call made the arrival; false when the id had arrived before. */
  readonly first: boolean;
  /** How many have arrived, this one included. */
  readonly arrived: number;
  readonly open: boolean;
};

export type LatchState = {
  readonly open: boolean;
  readonly count: number;
  /** In the order of arrival. */
  readonly arrived: readonly Arrival[];
  /** How many more have to arrive. */
  readonly missing: number;
  /** How often it was begun: 1 until it is reset. */
  readonly round: number;
};

const recipe = 'latch';
const largestCount = 1_000_000;

export class Latch {
  readonly name: string;
  readonly count: number;
  /** Who has arrived and whether it is open; kept current while anybody listens. */
  readonly state$: View<LatchState>;
  readonly #context: RecipeContext;
  readonly #root: string;
  readonly #gateKey: string;
  readonly #recheckMs: number;
  /** The gate when last seen: a guess that the store checks. */
  #known: LatchGate = firstGate;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: LatchOptions) {
    checkOptions(options, { count: true, recheck: true });
    const { count, recheck } = options;
    if (!Number.isSafeInteger(count) || count < 1 || count > largestCount) {
      throw invalidArgument('count', count, `a whole number from 1 to ${largestCount}`);
    }
    this.name = name;
    this.count = count;
    this.#context = context;
    this.#root = latchPrefix(name);
    this.#gateKey = `${this.#root}gate`;
    this.#recheckMs = recheck === undefined ? defaultRecheckMs : parsePeriod(recheck, 'recheck');
    const { client } = context.session;
    const prefix = this.#root;
    const show = (kvs: Iterable<KeyValue>) => this.#stateOf(kvs);
    this.state$ = observePrefix(client, prefix, show);
  }

  /**
   * Arrives under this id; once, however often it is called. The last one opens the latch in the same
   * exchange. One exchange; one more after a reset that this object has not heard of. Arrivals at an
   * open latch are noted and change nothing.
   *
   * @throws ConclaveError MISMATCH when others count to another number, SESSION_LOST, ABORTED;
   *   OUTCOME_UNKNOWN when an answer was lost and a reset came before the next
   */
  async arrive(id: string, options: ArriveOptions = {}): Promise<Arrived> {
    checkOptions(options, { meta: true, signal: true });
    const { meta, signal } = options;
    const level = escapeName(id, 'id');
    const { session } = this.#context;
    const { client } = session;
    const nonce = randomId(client.random);
    const record = encodeArrival({
      session: session.id,
      nonce,
      sinceMs: client.clock.wallMs(),
      meta: shownMeta(session, meta),
    });
    for (;;) {
      const guess = this.#known;
      const result = await this.#attempt(guess, level, record, signal);
      if (result.counted) {
        const { arrived } = result;
        return { first: true, arrived, open: arrived >= this.count || isOpen(guess) };
      }
      const gate = decodeGate(result.gate);
      const isRound = gate.round === guess.round;
      this.#known = gate;
      if (isRound) this.#agree(decodeTally(result.tally));
      if (isRound && result.id !== null) {
        const first = nonceOf(result.id) === nonce;
        if (!first) this.#contended('refused');
        return { first, arrived: Number(result.tally?.version ?? 0n), open: isOpen(gate) };
      }
      if (encodeGate(gate) === encodeGate(guess)) throw this.#unreadable();
      // An answer was lost, and the round in which this arrival may have counted is over. Another
      // arrival would tell the new round of work that was done in the old one.
      if (result.isDoubtful) {
        const message = `The latch '${this.name}' was reset while '${id}' arrived`;
        throw new ConclaveError('OUTCOME_UNKNOWN', message);
      }
      // A reset came first: the arrival is made again, in the new round.
      this.#contended('conflict');
    }
  }

  /**
   * Waits until the latch is open, or has been since this call began. One exchange when it is; else two.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; MISMATCH when others count to another
   *   number
   */
  async wait(options: WaitBarrierOptions = {}): Promise<void> {
    checkOptions(options, knownWaitOptions);
    const patience = patienceOf(options);
    let round: number | undefined;
    const judge = ({ kv }: KeyView): true | undefined => {
      const gate = decodeGate(kv);
      this.#known = gate;
      // Of a store that went back to a snapshot: what was opened since is closed again.
      round = Math.min(round ?? gate.round, gate.round);
      if (gate.opened < round) return undefined;
      if (gate.opened === gate.round) this.#agree(gate.count);
      return true;
    };
    const look = (stop: AbortSignal) => this.#look(stop);
    const recheckMs = this.#recheckMs;
    const wait = { key: this.#gateKey, look, judge, recheckMs, patience };
    await waitForKey<true>(this.#context, { recipe, name: this.name }, wait);
  }

  /**
   * Begins anew: nobody has arrived, and it is closed. Those that wait go on waiting. Resolves to the
   * number of the round. Two exchanges.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async reset(): Promise<number> {
    const { session } = this.#context;
    session.assertLive();
    const { client, signal } = session;
    const read = () => client.kv.get(this.#gateKey, { signal });
    const before = decodeGate(await untilAnswered(client, read, signal));
    for (let gate = before; gate.round === before.round; ) {
      session.assertLive();
      const next = { ...gate, round: gate.round + 1 };
      const txn = client.kv
        .txn()
        .if(this.#gateIs(gate))
        .then(
          op.put(this.#gateKey, encodeGate(next)),
          op.delete({ prefix: roundKeys(this.#root, gate.round).root }),
        )
        .else(op.get(this.#gateKey));
      const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
      const seen = result.succeeded ? next : decodeGate(result.responses[0]);
      if (encodeGate(seen) === encodeGate(gate)) throw this.#unreadable();
      gate = seen;
      this.#known = gate;
    }
    return this.#known.round;
  }

  /** Who has arrived, and whether it is open, now. One exchange. */
  async inspect(): Promise<LatchState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#root });
    return this.#stateOf(kvs);
  }

  #unreadable(): ConclaveError {
    return new ConclaveError('CODEC', `'${this.#gateKey}' holds no gate of a latch`);
  }

  #contended(kind: ContentionKind): void {
    this.#context.metrics.contended({ recipe, name: this.name, kind });
  }

  async #attempt(guess: LatchGate, level: string, record: string, signal: AbortSignal | undefined) {
    const { session } = this.#context;
    session.assertLive();
    if (signal?.aborted) throw aborted(signal);
    const { client } = session;
    const keys = roundKeys(this.#root, guess.round);
    const key = keys.id + level;
    const tally = encodeTally(this.count);
    const opened = { round: guess.round, opened: guess.round, count: this.count };
    const isLast = compare.version(keys.tally, '==', BigInt(this.count - 1));
    const open = client.kv
      .txn()
      .if(isLast)
      .then(op.put(this.#gateKey, encodeGate(opened)));
    const arrival = [
      op.put(key, record),
      op.put(keys.tally, tally),
      op.get(keys.tally),
      op.txn(open),
    ] as const;
    const isNew = [this.#gateIs(guess), compare.createRevision(key, '==', 0n)];
    const begin = client.kv
      .txn()
      .if(...isNew, compare.createRevision(keys.tally, '==', 0n))
      .then(...arrival);
    const txn = client.kv
      .txn()
      .if(...isNew, compare.value(keys.tally, '==', tally))
      .then(...arrival)
      .else(op.get(key), op.get(this.#gateKey), op.get(keys.tally), op.txn(begin));
    const stop = linkedSignal(session.signal, signal);
    let outcome: 'unknown' | 'not-applied' = 'not-applied';
    try {
      const result = await untilAnswered(
        client,
        () =>
          txn.commit({ signal: stop.signal }).catch((error: unknown) => {
            if (isConclaveError(error) && error.outcome === 'unknown') outcome = 'unknown';
            throw error;
          }),
        stop.signal,
      );
      const counted = result.succeeded ? result : result.responses[3];
      if (counted.succeeded) {
        const arrived = Number(counted.responses[2]?.version ?? 0n);
        return { counted: true, arrived } as const;
      }
      const [id, gate, tallied] = result.succeeded ? [null, null, null] : result.responses;
      const isDoubtful = (outcome as string) === 'unknown';
      return { counted: false, isDoubtful, id: id ?? null, gate, tally: tallied } as const;
    } catch (error) {
      if (session.state === 'lost') {
        const lost = sessionLost(session);
        throw new ConclaveError(lost.code, lost.message, { cause: lost, outcome });
      }
      throw signal?.aborted ? aborted(signal, outcome) : error;
    } finally {
      stop.unlink();
    }
  }

  /** The gate, and whether the count is agreed on, in one exchange. */
  async #look(signal: AbortSignal): Promise<KeyView> {
    const { kv } = this.#context.session.client;
    const { round } = this.#known;
    const { tally } = roundKeys(this.#root, round);
    const txn = kv.txn().then(op.get(this.#gateKey), op.get(tally));
    const { responses, revision } = await txn.commit({ signal });
    const [gate, tallied] = responses;
    if (decodeGate(gate).round === round) this.#agree(decodeTally(tallied));
    return { kv: gate ?? null, revision };
  }

  /** @throws ConclaveError MISMATCH */
  #agree(theirs: number | undefined): void {
    if (theirs === undefined || theirs === this.count) return;
    throw new ConclaveError(
      'MISMATCH',
      `The latch '${this.name}' counts to ${theirs}, not to ${this.count}`,
      { remedy: 'Give all clients the same count; after a reset another may be used.' },
    );
  }

  #gateIs(gate: LatchGate): Compare {
    // The first gate is never written.
    if (encodeGate(gate) === encodeGate(firstGate)) {
      return compare.createRevision(this.#gateKey, '==', 0n);
    }
    return compare.value(this.#gateKey, '==', encodeGate(gate));
  }

  #stateOf(kvs: Iterable<KeyValue>): LatchState {
    const all = [...kvs];
    const gate = decodeGate(all.find(({ key }) => key === this.#gateKey));
    const keys = roundKeys(this.#root, gate.round);
    const count = decodeTally(all.find(({ key }) => key === keys.tally)) ?? this.count;
    const arrived = inLineOrder(all.filter(({ key }) => key.startsWith(keys.id))).map((kv) =>
      decodeArrival(kv, keys.id),
    );
    const open = isOpen(gate);
    const missing = open ? 0 : count - arrived.length;
    return { open, count, arrived, missing, round: gate.round };
  }
}
