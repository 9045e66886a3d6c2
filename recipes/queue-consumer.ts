/**
 * Claiming jobs one at a time: what a worker is built on, for programs that want to decide
 * themselves when to claim, acknowledge and sweep.
 */
import { type Codec, decodeWith, json } from '../sdk/codec.ts';
import { invalidArgument } from '../sdk/errors.ts';
import type { KeyValue } from '../sdk/kv.ts';
import type { Duration } from '../sdk/options.ts';
import type { Session } from '../sdk/session.ts';
import { compare, type Operations, op, type Txn, type TxnResult } from '../sdk/txn.ts';
import { Claim } from './claim.ts';
import type { RecipeContext } from './context.ts';
import { durationOfAtLeast } from './durations.ts';
import { type ClaimState, encodeState, readClaimState, readJobState } from './job-record.ts';
import { type QueueKeys, queueKeys, randomId } from './names.ts';
import { ReadyWindow } from './ready-window.ts';
import { closingPatienceMs, pause, untilAnswered } from './repeat.ts';
import { SessionKeeper } from './session-keeper.ts';
import { delayedSignal, linkedSignal, unlessAborted } from './signals.ts';
import { Sweeper, type Swept } from './sweep.ts';

export type ConsumerOptions<T> = {
  /** How payloads are written. @default JSON */
  readonly codec?: Codec<T>;
  /** How long a claim may stay without being extended before others may take the job. @default '30s' */
  readonly visibility?: Duration;
  /** Claims of a job before it becomes a dead letter, unless its producer said otherwise. @default 5 */
  readonly maxAttempts?: number;
};

/** The key that says a worker lives; claims are taken and kept only while it is there. */
type Enlisted = { readonly session: Session; readonly worker: string };

export class QueueConsumer<T> implements AsyncDisposable {
  readonly name: string;
  readonly visibilityMs: number;
  readonly maxAttempts: number;
  readonly keys: QueueKeys;
  readonly window: ReadyWindow;
  readonly #context: RecipeContext;
  readonly #codec: Codec<T>;
  readonly #keeper: SessionKeeper;
  readonly #sweeper: Sweeper;
  readonly #closing = new AbortController();
  #enlisted: Enlisted | undefined;
  #enlisting: Promise<Enlisted> | undefined;
  #closed: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: ConsumerOptions<T> = {}) {
    const { client } = context.session;
    this.name = name;
    this.keys = queueKeys(name);
    this.visibilityMs = durationOfAtLeast(options.visibility ?? '30s', 'visibility', '100ms');
    this.maxAttempts = options.maxAttempts ?? 5;
    if (!(Number.isInteger(this.maxAttempts) && this.maxAttempts > 0)) {
      throw invalidArgument('maxAttempts', options.maxAttempts, 'a whole number of at least 1');
    }
    this.window = new ReadyWindow(client, this.keys.ready);
    this.#context = context;
    this.#codec = options.codec ?? json<T>();
    this.#keeper = new SessionKeeper(context.session, 'shared');
    this.#sweeper = new Sweeper(client, this.keys);
    context.background.add(this);
  }

  /**
   * The oldest job that can be had, or null when none is ready. Counts as an attempt.
   *
   * @throws ConclaveError CLOSED, ABORTED, or what the store refuses for good
   */
  async claim(signal: AbortSignal = this.#closing.signal): Promise<Claim<T> | null> {
    for (;;) {
      const enlisted = await this.#enlist(signal);
      const entry = await this.window.next(signal);
      if (!entry) return null;
      const claim = await this.#take(entry, enlisted, signal).catch((error: unknown) => {
        // Whatever became of it, the next try finds out.
        this.window.putBack(entry);
        throw error;
      });
      if (claim === 'not-enlisted') {
        this.window.putBack(entry);
        if (this.#enlisted === enlisted) this.#enlisted = undefined;
        // The session, too, will find out that its lease is gone; not in a tight loop.
        await pause(this.#keeper.client.clock, 50, signal);
        continue;
      }
      this.window.tried(claim !== undefined);
      if (claim) return claim;
    }
  }

  /**
   * Returns abandoned jobs and makes due ones ready; the next claim may list anew. Workers do it by
   * themselves.
   */
  sweep(signal: AbortSignal = this.#closing.signal): Promise<Swept> {
    this.window.mistrust();
    return this.#sweeper.sweep(signal);
  }

  /**
   * Ends the worker's enlistment: jobs it still has return to the line. Settle them before.
   * Idempotent; never rejects. Takes at most five seconds, also when the store does not answer.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await this.#enlisting?.catch(() => undefined);
    const enlisted = this.#enlisted;
    if (enlisted && enlisted.session.state !== 'lost') {
      const key = this.keys.worker + enlisted.worker;
      // The key has this consumer's name: nobody else's can be there.
      const remove = async () => {
        await enlisted.session.client.kv.delete(key, { timeout: closingPatienceMs });
        return true;
      };
      await remove().catch(() => enlisted.session.reap(remove));
    }
    await this.#keeper.close();
    this.#context.background.delete(this);
  }

  async #enlist(signal: AbortSignal): Promise<Enlisted> {
    const session = await this.#keeper.live(signal);
    if (this.#enlisted?.session === session) return this.#enlisted;
    this.#enlisting ??= this.#enlistIn(session).finally(() => {
      this.#enlisting = undefined;
    });
    return unlessAborted(this.#enlisting, signal);
  }

  async #enlistIn(session: Session): Promise<Enlisted> {
    const { client, lease } = session;
    const worker = `${session.id}-${randomId(client.random)}`;
    const record = JSON.stringify({ v: 1, sinceMs: client.clock.wallMs(), meta: session.meta });
    const { signal } = this.#closing;
    await untilAnswered(
      client,
      () => client.kv.put(this.keys.worker + worker, record, { lease, signal }),
      signal,
    );
    this.#enlisted = { session, worker };
    return this.#enlisted;
  }

  /** Claims one job; undefined when somebody else was faster. */
  async #take(
    entry: KeyValue,
    { session, worker }: Enlisted,
    stop: AbortSignal,
  ): Promise<Claim<T> | 'not-enlisted' | undefined> {
    const { client } = session;
    const { ready, claim, job } = this.keys;
    const id = entry.key.slice(ready.length);
    const before = readJobState(entry);
    const state: ClaimState = {
      ...before,
      attempts: before.attempts + 1,
      worker,
      nonce: randomId(client.random),
      visibilityMs: this.visibilityMs,
      attemptsMax: before.maxAttempts ?? this.maxAttempts,
      claimedMs: client.clock.wallMs(),
    };
    const workerKey = this.keys.worker + worker;
    const txn = client.kv
      .txn()
      .if(
        compare.modRevision(entry.key, '==', entry.modRevision),
        compare.createRevision(workerKey, '>', 0n),
      )
      .then(op.delete(entry.key), op.put(claim + id, encodeState(state)), op.get(job + id))
      .else(op.get(claim + id), op.get(job + id), op.get(workerKey));
    const sentMs = client.clock.monotonicMs();
    const result = await this.#untilTold(txn, session, stop);
    let createRevision = result.revision;
    let payload: KeyValue | null;
    if (result.succeeded) {
      payload = result.responses[2];
    } else {
      const [claimed, data, enlisted] = result.responses;
      // The answer to an earlier attempt was lost, but it did claim.
      const mine = claimed !== null && readClaimState(claimed).nonce === state.nonce;
      if (!mine) return enlisted ? undefined : 'not-enlisted';
      createRevision = claimed.createRevision;
      payload = data;
    }
    const grant = { id, createRevision, state, sentMs };
    const claimed = new Claim<T>(session, this.keys, grant, () => this.#decode(payload, id));
    if (payload) return claimed;
    // Somebody removed the payload by hand: there is nothing to work on.
    await claimed.discard();
    return undefined;
  }

  /**
   * Repeated only while the claim would be of use: a claim of a lost session is swept. Whoever stops
   * still waits a little for the answer, to give the job back rather than leave it claimed.
   */
  async #untilTold<Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
    session: Session,
    stop: AbortSignal,
  ): Promise<TxnResult<Then, Else>> {
    const { client } = session;
    const patience = delayedSignal(client.clock, stop, closingPatienceMs);
    const { signal, unlink } = linkedSignal(session.signal, patience.signal);
    try {
      return await untilAnswered(client, () => txn.commit({ signal }), signal);
    } finally {
      unlink();
      patience.unlink();
    }
  }

  #decode(payload: KeyValue | null, id: string): T {
    return decodeWith(this.#codec, payload?.value ?? new Uint8Array(), this.keys.job + id);
  }
}
