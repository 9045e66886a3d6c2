/** Being a member of a group, over lost sessions too, until one leaves. */

import { combineLatest, distinctUntilChanged, map, type Observable, takeWhile } from 'rxjs';
import { type Codec, encodeWith } from '../../sdk/codec.ts';
import { ConclaveError, type ErrorCode, isConclaveError } from '../../sdk/errors.ts';
import type { RecipeContext } from '../common/context.ts';
import { KeptEntry, type KeptState } from '../common/kept-entry.ts';
import { measureHold } from '../common/measured-hold.ts';
import { stateView, type View } from '../common/view.ts';
import type { Member } from './member.ts';
import { encodeMember, stampOfMember } from './member.ts';

/**
 * - `joining`: being written, for the first time or again after a loss.
 * - `joined`: in the store as far as it has told.
 * - `replaced`: a later member took the id; this one has ended.
 * - `left`: it has left.
 */
export type MembershipState = 'joining' | 'joined' | 'replaced' | 'left';

/** One of `count` equal parts of some work, counted from 0. */
export type Share = {
  readonly index: number;
  readonly count: number;
  /** The members as of this revision make it so. */
  readonly revision: bigint;
};

const stateOf = {
  writing: 'joining',
  written: 'joined',
  replaced: 'replaced',
  closed: 'left',
} as const satisfies Record<KeptState, MembershipState>;

type Joining<T> = {
  readonly name: string;
  readonly id: string;
  readonly key: string;
  readonly codec: Codec<T>;
  readonly recheckMs: number;
  readonly members$: Observable<{
    readonly members: readonly Member<T>[];
    readonly revision: bigint;
  }>;
};

export class Membership<T> implements AsyncDisposable {
  readonly id: string;
  /** Replays the last; completes when the membership has ended. */
  readonly state$: View<MembershipState>;
  /**
   * This member's part of the work, by its place in the order of members; null while it is not among
   * them. Others may see the change a little earlier or later: guard what must not overlap by a lock.
   */
  readonly share$: View<Share | null>;
  readonly #context: RecipeContext;
  readonly #name: string;
  readonly #codec: Codec<T>;
  readonly #kept: KeptEntry<Buffer>;
  /** What the store took last. */
  #stored: T;
  /** Updates that the store has not answered, in the order of the calls. */
  readonly #updates = new Set<{ readonly data: T }>();

  constructor(context: RecipeContext, joining: Joining<T>, data: T) {
    const { session, metrics } = context;
    const { clock } = session.client;
    const { name, id, key, codec, recheckMs, members$ } = joining;
    const about = { sinceMs: clock.wallMs(), meta: session.meta };
    this.id = id;
    this.#context = context;
    this.#name = name;
    this.#codec = codec;
    this.#stored = data;
    this.#kept = new KeptEntry(
      context,
      {
        key,
        what: `The membership of '${id}' in group '${name}'`,
        encode: (value, stamp) => encodeMember(value, stamp, about),
        stampOf: stampOfMember,
        recheckMs,
        onLost: (reason) => metrics.lost({ recipe: 'group', name, reason }),
      },
      encodeWith(codec, data),
    );
    const kept = this.#kept;
    this.state$ = stateView(kept.state$.pipe(map((state) => stateOf[state])));
    this.share$ = stateView(
      combineLatest([this.state$, members$]).pipe(
        takeWhile(([state]) => state === 'joining' || state === 'joined', true),
        map(([state, { members, revision }]) => {
          const index = members.findIndex(({ incarnation }) => incarnation === kept.owner);
          return state === 'joined' && index >= 0
            ? { index, count: members.length, revision }
            : null;
        }),
        distinctUntilChanged((a, b) => a?.index === b?.index && a?.count === b?.count),
      ),
    );
  }

  get state(): MembershipState {
    return stateOf[this.#kept.state];
  }

  /** What others see, once the store has it. */
  get data(): T {
    const latest = [...this.#updates].at(-1);
    return latest === undefined ? this.#stored : latest.data;
  }

  /** Resolves when the store has the member. */
  async start(): Promise<void> {
    const { session, metrics } = this.#context;
    const { clock } = session.client;
    const startedMs = clock.monotonicMs();
    const report = (outcome: 'acquired' | ErrorCode) => {
      const ms = clock.monotonicMs() - startedMs;
      metrics.waited({ recipe: 'group', name: this.#name, ms, outcome });
    };
    try {
      await this.#kept.start();
    } catch (error) {
      report(isConclaveError(error) ? error.code : 'INTERNAL');
      throw error;
    }
    report('acquired');
    const measured = { recipe: 'group', name: this.#name } as const;
    this.#kept.state$.subscribe({ complete: measureHold(metrics, clock, measured) });
  }

  /**
   * Changes the data in place: nobody sees the member missing, and its place in the order stays.
   * Resolves when the store has it. One exchange.
   *
   * @throws ConclaveError RELEASED after `leave()`, MISMATCH when the id was taken over, CODEC,
   *   TOO_LARGE and what else the store refuses: then the data stays as it was
   */
  async update(data: T): Promise<void> {
    const value = encodeWith(this.#codec, data);
    const update = { data };
    this.#updates.add(update);
    try {
      await this.#kept.change(() => value);
      // The store takes them in the order of the calls.
      this.#stored = data;
    } catch (error) {
      if (!isConclaveError(error, 'CLOSED')) throw error;
      const message = `The membership of '${this.id}' in group '${this.#name}' has ended`;
      throw new ConclaveError('RELEASED', message, { cause: error });
    } finally {
      this.#updates.delete(update);
    }
  }

  /** Leaves for good. Idempotent; never rejects: at worst the lease runs out. */
  leave(): Promise<void> {
    return this.#kept.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.leave();
  }
}
