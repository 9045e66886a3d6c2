/**
 * Group membership: processes join with some data, and all see who is there.
 *
 * Guarantee: a member is listed for as long as its process renews its session, and for at most the
 * session's TTL longer. All see the same members in the same order at the same revision. What a
 * process shows may be older than the store; it says when it is not being refreshed.
 */
import { Observable, shareReplay } from 'rxjs';
import { type Codec, json } from '../../sdk/codec.ts';
import { invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { checkCodec, checkOptions, onlySignal, timeLimits } from '../common/option-checks.ts';
import { onAbort } from '../common/signals.ts';
import { type TimeLimit, withinTime } from '../common/time-limit.ts';
import { stateView, View } from '../common/view.ts';
import { escapeName, groupPrefix, randomId } from '../names.ts';
import { type GroupEvent, type GroupSnapshot, type GroupStep, GroupView } from './group-view.ts';
import { inOrder, type Member, readMember } from './member.ts';
import { Membership } from './membership.ts';
import { eventsOf, iterateEvents, statesOf } from './steps.ts';
import { type WaitOptions, waitForState } from './waiting.ts';

export type GroupOptions<T> = {
  /** How data is written. @default JSON */
  readonly codec?: Codec<T>;
  /** How often members read their own key, and observers the keys of all. @default '15s' */
  readonly recheck?: Duration;
};

/** When the time is over, or the signal aborts, nobody has joined. */
export type JoinOptions<T> = TimeLimit & {
  /** Must differ between members; joining with an id again replaces the earlier one. @default random */
  readonly id?: string;
} & (undefined extends T ? { readonly data?: T } : { /** What others see. */ readonly data: T });

export class Group<T> {
  readonly name: string;
  /** Who is there, in order; each change. Nothing until the store has answered. */
  readonly members$: View<GroupSnapshot<T>>;
  /** Begins with a reset that tells all members, and goes on from there. */
  readonly changes$: View<GroupEvent<T>>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #codec: Codec<T>;
  readonly #recheckMs: number;
  readonly #steps$: Observable<GroupStep<T>>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: GroupOptions<T> = {}) {
    checkOptions<GroupOptions<T>>(options, { codec: true, recheck: true });
    this.name = name;
    this.#context = context;
    this.#prefix = groupPrefix(name);
    const { codec = json<T>() } = options;
    checkCodec(codec);
    this.#codec = codec;
    const recheckMs = parsePeriod(options.recheck ?? '15s', 'recheck');
    this.#recheckMs = recheckMs;
    const place = { prefix: this.#prefix, codec, recheckMs };
    this.#steps$ = new Observable<GroupStep<T>>((subscriber) => {
      const view = new GroupView(context, place, subscriber);
      return () => void view.close();
    }).pipe(shareReplay({ bufferSize: 1, refCount: true }));
    this.members$ = stateView(statesOf(this.#steps$));
    this.changes$ = new View(eventsOf(this.#steps$, whole), (signal) =>
      iterateEvents(this.#steps$, whole, signal),
    );
  }

  /**
   * Joins; resolves when the store has the member. It stays, over lost sessions too, until it leaves or
   * the session that this was made from is closed. One exchange, and a session of its own.
   *
   * @throws ConclaveError INVALID_ARGUMENT, ABORTED, TIMEOUT, CODEC, CLOSED, PERMISSION_DENIED,
   *   TOO_LARGE, NO_SPACE
   */
  async join(options: JoinOptions<T>): Promise<Membership<T>> {
    checkOptions<Partial<JoinOptions<unknown>>>(options, { ...timeLimits, id: true, data: true });
    const { client } = this.#context.session;
    const id = options.id ?? randomId(client.random);
    const joining = {
      name: this.name,
      id,
      key: this.#prefix + escapeName(id, 'id'),
      codec: this.#codec,
      recheckMs: this.#recheckMs,
      members$: this.members$,
    };
    const what = `Joining group '${this.name}'`;
    return withinTime(client.clock, options, what, async (signal) => {
      throwIfAborted(signal);
      const membership = new Membership<T>(this.#context, joining, options.data as T);
      const stopListening = onAbort(signal, () => void membership.leave());
      try {
        await membership.start();
        return membership;
      } catch (error) {
        throwIfAborted(signal);
        throw error;
      } finally {
        stopListening();
      }
    });
  }

  /** Who is there now, in order. One exchange. */
  async members(): Promise<GroupSnapshot<T>> {
    const { client } = this.#context.session;
    const { kvs, revision } = await client.kv.list({ prefix: this.#prefix });
    const members = kvs.flatMap((kv) => readMember(this.#prefix, kv, this.#codec) ?? []);
    return { members: inOrder(members), revision, stale: false };
  }

  /**
   * The same as `changes$`, as a loop. Leaving the loop ends it. A loop that lags more than 1,024 events
   * behind gets one reset for all of them.
   */
  changes(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<GroupEvent<T>> {
    checkOptions<{ readonly signal?: AbortSignal }>(options, onlySignal);
    return this.changes$.iterate(options);
  }

  /**
   * Waits until so many members are there, or until the condition holds. One exchange and a watch.
   *
   * @throws ConclaveError INVALID_ARGUMENT, ABORTED, TIMEOUT; SESSION_LOST or CLOSED as soon as the
   *   session ends; what the condition throws
   */
  async waitFor(
    target: number | ((members: readonly Member<T>[]) => boolean),
    options: WaitOptions = {},
  ): Promise<GroupSnapshot<T>> {
    const isCount = Number.isSafeInteger(target) && Number(target) >= 0;
    if (typeof target !== 'function' && !isCount) {
      throw invalidArgument('target', target, 'a whole number, 0 or more, or a condition');
    }
    checkOptions<WaitOptions>(options, timeLimits);
    const holds =
      typeof target === 'number'
        ? (members: readonly Member<T>[]) => members.length >= target
        : target;
    const what = typeof target === 'number' ? `${target} members` : 'the members wanted';
    const wait = {
      recipe: 'group',
      name: this.name,
      what: `${what} of group '${this.name}'`,
      states$: this.members$,
      // Who was there before the store fell silent may be gone.
      take: (snapshot: GroupSnapshot<T>) =>
        !snapshot.stale && holds(snapshot.members) ? snapshot : undefined,
    } as const;
    return waitForState(this.#context, wait, options);
  }
}

const whole = <T>({ members, revision }: GroupSnapshot<T>, reason: 'start' | 'overflow') =>
  ({ type: 'reset', reason, members, revision }) as const;
