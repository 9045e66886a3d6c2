/** A place in a read-write lock that is held, and its changes of mode. */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions } from '../common/option-checks.ts';
import { patienceOf, waitPatiently } from '../common/patience.ts';
import { mayRepeat, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Holding } from '../line/holding.ts';
import { lineTiming } from '../line/line-membership.ts';
import { inLineOrder } from '../line/line-record.ts';
import { isTakeover } from '../line/takeover.ts';
import { untilGone } from '../line/wake.ts';
import type { Measured } from '../metrics.ts';
import { HeldLock, type LockHandle } from './lock-handle.ts';
import { judgeUpgrade, modeOf, type PlaceMode, type RwMode } from './rw-rules.ts';

export type UpgradeOptions = {
  /** Gives up: the handle stays an upgradable reader. Rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up: the handle stays an upgradable reader. Rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
};

export interface RwHandle extends LockHandle {
  /** What the holder may do now. */
  readonly mode: RwMode;
  /**
   * Lets others in without letting go: from `write` to `read` or `upgradable`, from `upgradable` to
   * `read`. One exchange. No writer gets in between, and what waits behind keeps its order. Resolves
   * to the same handle.
   *
   * @throws ConclaveError NOT_HELD when that would be more than is held, RELEASED, LOCK_LOST,
   *   SESSION_LOST
   */
  downgrade(to?: 'read' | 'upgradable'): Promise<RwHandle>;
  /**
   * From `upgradable` to `write`, in the same place: nobody writes in between. Three exchanges when no
   * reader holds; otherwise it waits for those that do, while new readers wait behind it. Resolves to
   * the same handle, with a higher token.
   *
   * @throws ConclaveError NOT_HELD when the mode is `read`: two readers that both waited to write
   *   would wait for ever, so ask for `upgradable` first; NOT_ACQUIRED, ABORTED, RELEASED, LOCK_LOST,
   *   SESSION_LOST
   */
  upgrade(options?: UpgradeOptions): Promise<RwHandle>;
}

const strength: Readonly<Record<RwMode, number>> = { read: 0, upgradable: 1, write: 2 };

/** What a handle knows of its own key. */
export type OwnPlace = {
  /** The revision of the last write that is known. */
  readonly written: bigint;
  /** Whether a later one took the place over. */
  readonly isTakenOver: (kv: KeyValue) => boolean;
};

type Change =
  | { readonly kind: 'changed'; readonly revision: bigint }
  /** The condition does not hold. */
  | { readonly kind: 'prevented' };

export class RwHold extends HeldLock implements RwHandle {
  override readonly guard: Holding['guard'];
  readonly #context: RecipeContext;
  readonly #measured: Measured;
  readonly #holding: Holding;
  readonly #prefix: string;
  readonly #encode: (mode: PlaceMode) => string;
  readonly #recheckMs: number;
  readonly #isTakenOver: OwnPlace['isTakenOver'];
  #mode: RwMode;
  #token: bigint;
  /** The revision of the last change of mode: a late repetition of an earlier one fails on it. */
  #changed: bigint;
  #lastChange: Promise<unknown> = Promise.resolve();

  /** @param prefix of the whole line */
  constructor(
    context: RecipeContext,
    name: string,
    mode: RwMode,
    holding: Holding,
    prefix: string,
    encode: (mode: PlaceMode) => string,
    recheckMs: number = lineTiming.recheckMs,
    own: OwnPlace = { written: holding.createRevision, isTakenOver: isTakeover },
  ) {
    super(name, holding);
    this.#context = context;
    this.#measured = { recipe: 'rw', name };
    this.#holding = holding;
    this.#prefix = prefix;
    this.#encode = encode;
    this.#recheckMs = recheckMs;
    this.#mode = mode;
    this.#token = holding.token;
    this.#changed = own.written;
    this.#isTakenOver = own.isTakenOver;
    // A writer's transaction must not pass once it has let readers in.
    this.guard = (txn) => {
      const guarded = holding.guard(txn);
      if (this.#mode !== 'write') return guarded;
      return guarded.if(compare.modRevision(this.key, '==', this.#changed));
    };
  }

  get mode(): RwMode {
    return this.#mode;
  }

  override get token(): bigint {
    return this.#token;
  }

  downgrade(to: 'read' | 'upgradable' = 'read'): Promise<RwHandle> {
    return this.#inTurn(async () => {
      if (to !== 'read' && to !== 'upgradable') {
        throw invalidArgument('to', to, "'read' or 'upgradable'");
      }
      this.assertHeld();
      if (strength[to] > strength[this.#mode]) throw this.#notHeld(to, 'upgradable');
      if (to === this.#mode) return;
      await this.#change(to);
      this.#mode = to;
    });
  }

  upgrade(options: UpgradeOptions = {}): Promise<RwHandle> {
    return this.#inTurn(async () => {
      checkOptions(options, { signal: true, timeout: true });
      const patience = patienceOf(options);
      this.assertHeld();
      if (this.#mode === 'write') return;
      if (this.#mode === 'read') throw this.#notHeld('write', 'upgradable');
      const late = (timeoutMs: number) =>
        new ConclaveError(
          'NOT_ACQUIRED',
          `The readers of '${this.name}' did not leave within ${timeoutMs} ms`,
        );
      await waitPatiently(this.#context, this.#measured, patience, late, async (enough) => {
        const stop = linkedSignal(this.signal, enough);
        try {
          await this.#upgrade(stop.signal);
        } catch (error) {
          this.#withdrawRequest();
          this.signal.throwIfAborted();
          // Rather than how the call under way put it.
          enough?.throwIfAborted();
          throw error;
        } finally {
          stop.unlink();
        }
      });
    });
  }

  async #upgrade(stop: AbortSignal): Promise<void> {
    const { client } = this.#holding.session;
    const { key } = this;
    const { createRevision } = this.#holding;
    await this.#change('upgrading');
    const self = { key, createRevision, requested: this.#changed };
    let waits = false;
    for (;;) {
      const listed = await untilAnswered(
        client,
        () => client.kv.list({ prefix: this.#prefix }, { signal: stop }),
        stop,
      );
      const judgement = judgeUpgrade(inLineOrder(listed.kvs), self);
      if (judgement.kind === 'lost') throw this.#gone();
      if (judgement.kind === 'wait') {
        if (!waits) this.#context.metrics.contended({ ...this.#measured, kind: 'wait' });
        waits = true;
        await this.#untilGone(judgement.reader, listed.revision, stop);
        if (stop.aborted) throw stop.reason;
        continue;
      }
      const { gate } = judgement;
      const condition = gate && compare.createRevision(gate.key, '==', gate.createRevision);
      const change = await this.#change('write', condition);
      if (change.kind === 'prevented') continue;
      this.#mode = 'write';
      this.#token = change.revision;
      return;
    }
  }

  async #untilGone(reader: KeyLike, revision: bigint, stop: AbortSignal): Promise<void> {
    const { client } = this.#holding.session;
    const wait = linkedSignal(stop);
    const patienceMs = this.#recheckMs * (0.75 + 0.5 * client.random());
    const cancel = client.clock.setTimer(patienceMs, () => wait.abort());
    const restMs = patienceMs / 10;
    await untilGone(client, reader, { from: revision + 1n, restMs, signal: wait.signal });
    cancel();
    wait.unlink();
  }

  /** Puts the mode into the own key, fenced by the last change; safe to repeat. */
  async #change(mode: PlaceMode, condition?: Compare): Promise<Change> {
    const { session, signal, createRevision } = this.#holding;
    const { client, lease } = session;
    for (;;) {
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.key, '==', this.#changed), ...(condition ? [condition] : []))
        .then(op.put(this.key, this.#encode(mode), { lease }))
        .else(op.get(this.key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) {
        this.#changed = result.revision;
        return { kind: 'changed', revision: result.revision };
      }
      const found: KeyValue | null = result.responses[0] ?? null;
      if (found?.createRevision !== createRevision || this.#isTakenOver(found)) throw this.#gone();
      const unchanged = found.modRevision === this.#changed;
      this.#changed = found.modRevision;
      // An attempt whose answer was lost did take effect.
      if (modeOf(found) === mode) return { kind: 'changed', revision: found.modRevision };
      if (unchanged && condition) return { kind: 'prevented' };
    }
  }

  /** Lets readers in again after an upgrade that was given up. */
  #withdrawRequest(): void {
    const { session } = this.#holding;
    session.reap(async () => {
      if (this.signal.aborted || this.#mode !== 'upgradable') return true;
      await this.#inTurn(async () => {
        if (this.signal.aborted || this.#mode !== 'upgradable') return;
        await this.#change('upgradable');
      });
      return true;
    });
  }

  /** Changes of mode happen one after the other. */
  async #inTurn(change: () => Promise<void>): Promise<RwHandle> {
    const turn = this.#lastChange.then(change);
    this.#lastChange = turn.catch(() => undefined);
    try {
      await turn;
    } catch (error) {
      // What ended the hold explains more than what became of the call.
      if (mayRepeat(error)) this.signal.throwIfAborted();
      throw error;
    }
    return this;
  }

  #gone(): ConclaveError {
    this.#holding.verify();
    const message = `The key of rw '${this.name}' was removed or taken over`;
    return new ConclaveError('LOCK_LOST', message);
  }

  #notHeld(wanted: RwMode, first: RwMode): ConclaveError {
    const message = `The handle of rw '${this.name}' has mode '${this.#mode}', not enough for '${wanted}'`;
    return new ConclaveError('NOT_HELD', message, {
      remedy: `Acquire it with mode '${first}' to change to '${wanted}' later.`,
    });
  }
}

type KeyLike = Pick<KeyValue, 'key' | 'createRevision'>;
