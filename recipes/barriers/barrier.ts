/**
 * A barrier: whoever comes while it is raised waits until it is lowered.
 *
 * A waiter is let through by proof only: the deletion of the gate's key, or a look at the store that
 * shows no gate, or one that was raised later. A watch that ends proves nothing (etcd-io/etcd#17198
 * lets waiters through then).
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions, type Known } from '../common/option-checks.ts';
import { patienceOf } from '../common/patience.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { View } from '../common/view.ts';
import { Holding } from '../line/holding.ts';
import { firstAttempt } from '../line/line-membership.ts';
import {
  encodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
  shownMeta,
} from '../line/line-record.ts';
import { HeldLock, type LockHandle } from '../locks/lock-handle.ts';
import { barrierPrefix, goneKey, randomId } from '../names.ts';
import { commitOnce } from '../values/commit-once.ts';
import { GateKeeper } from './barrier-gate.ts';
import {
  defaultRecheckMs,
  type KeyView,
  knownWaitOptions,
  type WaitBarrierOptions,
  waitForKey,
} from './key-wait.ts';

export type BarrierOptions = {
  /** How often a waiter looks at the barrier again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type RaiseOptions = {
  /** Shown to others beside the session's own meta. */
  readonly meta?: Meta;
};

export type BarrierWaitOptions = WaitBarrierOptions & {
  /** Shown to others beside the session's own meta. */
  readonly meta?: Meta;
  /** Show others that this one waits; without it a wait writes nothing. @default true */
  readonly announce?: boolean;
};

export type BarrierState = {
  /** Who raised it, and since when; null while it is down. Its session is '0' when it is permanent. */
  readonly raised: LineEntry | null;
  /** Those that announced their wait, the oldest first. */
  readonly waiters: readonly LineEntry[];
};

/** A barrier that is up while its session lives. Releasing or disposing it lowers it. */
export type RaisedBarrier = LockHandle;

const recipe = 'barrier';

const knownWait: Known<BarrierWaitOptions> = { ...knownWaitOptions, meta: true, announce: true };

export class Barrier {
  readonly name: string;
  /** Whether it is raised, and who waits; kept current while anybody listens. */
  readonly state$: View<BarrierState>;
  readonly #context: RecipeContext;
  readonly #root: string;
  readonly #gateKey: string;
  readonly #recheckMs: number;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: BarrierOptions = {}) {
    checkOptions(options, { recheck: true });
    const { recheck } = options;
    this.name = name;
    this.#context = context;
    this.#root = barrierPrefix(name);
    this.#gateKey = `${this.#root}gate`;
    this.#recheckMs = recheck === undefined ? defaultRecheckMs : parsePeriod(recheck, 'recheck');
    const { client } = context.session;
    const prefix = this.#root;
    this.state$ = observePrefix(client, prefix, (kvs) => stateOf(kvs, prefix));
  }

  /**
   * Raises the barrier for as long as this session lives, at most. Null when it is raised already. One
   * exchange.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async raise(options: RaiseOptions = {}): Promise<RaisedBarrier | null> {
    const { session } = this.#context;
    const raised = await this.#raise(options, session.lease);
    if (raised === undefined) return null;
    const subject = { recipe, name: this.name, lostCode: 'LOCK_LOST' } as const;
    let holding: Holding | undefined;
    const gate = { key: this.#gateKey, recheckMs: this.#recheckMs, ...raised };
    const keeper = new GateKeeper(session, gate, (end) => holding?.ended(end));
    const token = raised.createRevision;
    const grant = { createRevision: token, token };
    holding = new Holding(this.#context, subject, keeper, grant, undefined);
    if (session.signal.aborted) holding.ended({ kind: 'session-lost' });
    return new HeldLock(this.name, holding);
  }

  /**
   * Raises the barrier until somebody lowers it, whatever becomes of this session. False when it is
   * raised already. One exchange.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers; `outcome` tells whether it may be
   *   raised
   */
  async raisePermanently(options: RaiseOptions = {}): Promise<boolean> {
    const { session } = this.#context;
    const raised = await this.#raise(options, undefined);
    const spent = raised?.spent;
    if (spent !== undefined) {
      session.reap(async () => {
        await session.client.kv.delete(spent);
        return true;
      });
    }
    return raised !== undefined;
  }

  /**
   * Lowers the barrier that is raised now, whoever raised it. False when none was. Two exchanges.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async lower(): Promise<boolean> {
    const { session } = this.#context;
    session.assertLive();
    const { client, signal } = session;
    const read = () => client.kv.get(this.#gateKey, { signal });
    const gate = await untilAnswered(client, read, signal);
    if (gate === null) return false;
    // Raised anew by the time of a repetition, it is another barrier, and stays.
    const txn = client.kv
      .txn()
      .if(compare.createRevision(this.#gateKey, '==', gate.createRevision))
      .then(op.delete(this.#gateKey));
    await untilAnswered(client, () => txn.commit(), signal);
    return true;
  }

  /**
   * Waits until the barrier is down. One exchange when it is; else two, and one in the background to
   * take the announcement back.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST, or what the store refuses
   */
  async wait(options: BarrierWaitOptions = {}): Promise<void> {
    checkOptions(options, knownWait);
    const { meta, announce = true } = options;
    const patience = patienceOf(options);
    const record = this.#record(meta);
    if (typeof announce !== 'boolean') throw invalidArgument('announce', announce, 'a boolean');
    const announcement = announce ? this.#announcement(record) : undefined;
    let first: bigint | undefined;
    const judge = ({ kv }: KeyView): true | undefined => {
      if (kv === null) return true;
      // A gate that was raised later: the one this waits for was lowered. An older one is not that:
      // it shows when the store went back to a snapshot.
      if (first !== undefined && kv.createRevision > first) return true;
      first = kv.createRevision;
      return undefined;
    };
    const look = announcement?.look ?? ((stop: AbortSignal) => this.#look(stop));
    const recheckMs = this.#recheckMs;
    const wait = { key: this.#gateKey, look, judge, recheckMs, patience };
    try {
      await waitForKey<true>(this.#context, { recipe, name: this.name }, wait);
    } finally {
      announcement?.withdraw();
    }
  }

  /** Whether it is raised and who waits, now. One exchange. */
  async inspect(): Promise<BarrierState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#root });
    return stateOf(kvs, this.#root);
  }

  async #raise(
    options: RaiseOptions,
    lease: bigint | undefined,
  ): Promise<{ createRevision: bigint; spent: string | undefined } | undefined> {
    checkOptions(options, { meta: true });
    const { meta } = options;
    const { session } = this.#context;
    const opKey = `${this.#root}op/${session.id}-${randomId(session.client.random)}`;
    const outcome = await commitOnce(session, {
      key: opKey,
      record: '1',
      lease: session.lease,
      compares: [compare.createRevision(this.#gateKey, '==', 0n)],
      writes: [op.put(this.#gateKey, this.#record(meta), lease === undefined ? {} : { lease })],
      reads: [op.get(this.#gateKey)],
      fence: true,
    });
    if (outcome.kind === 'refused') {
      this.#context.metrics.contended({ recipe, name: this.name, kind: 'refused' });
      return undefined;
    }
    if (outcome.kind === 'recorded') {
      return { createRevision: outcome.record.createRevision, spent: undefined };
    }
    return { createRevision: outcome.revision, spent: outcome.alone ? opKey : undefined };
  }

  #record(meta: Meta | undefined): string {
    const { session } = this.#context;
    const sinceMs = session.client.clock.wallMs();
    return encodeLineRecord({ sinceMs, meta: shownMeta(session, meta) });
  }

  async #look(signal: AbortSignal): Promise<KeyView> {
    const { kv } = this.#context.session.client;
    const { kvs, revision } = await kv.list(this.#gateKey, { signal });
    return { kv: kvs[0] ?? null, revision };
  }

  /** Looks at the gate and, if it is raised, writes down who waits, in one exchange. */
  #announcement(record: string) {
    const { session } = this.#context;
    const { client, lease } = session;
    const member = `${session.id}-${randomId(client.random)}`;
    const key = `${this.#root}waiting/${member}`;
    const gate = op.get(this.#gateKey);
    const txn = client.kv
      .txn()
      .if(compare.createRevision(this.#gateKey, '>', 0n), ...firstAttempt(key, member))
      .then(gate, op.put(key, record, { lease }))
      .else(gate);
    let sent = 0;
    let answered = 0;
    let isWritten = false;
    const look = async (signal: AbortSignal): Promise<KeyView> => {
      sent += 1;
      const { succeeded, responses, revision } = await txn.commit({ signal });
      answered += 1;
      isWritten ||= succeeded;
      return { kv: responses[0], revision };
    };
    const withdraw = (): void => {
      const lingers = sent > answered;
      if (!isWritten && !lingers) return;
      // A copy of the look that is still on its way must not announce a wait that is over.
      const mark = lingers ? [op.put(goneKey(member), '', { lease })] : [];
      session.reap(async () => {
        await client.kv
          .txn()
          .then(op.delete(key), ...mark)
          .commit();
        return true;
      });
    };
    return { look, withdraw };
  }
}

function stateOf(kvs: Iterable<KeyValue>, root: string): BarrierState {
  const all = [...kvs];
  const gate = all.find(({ key }) => key === `${root}gate`);
  const waiting = all.filter(({ key }) => key.startsWith(`${root}waiting/`));
  return {
    raised: gate === undefined ? null : lineEntry(gate),
    waiters: inLineOrder(waiting).map(lineEntry),
  };
}
