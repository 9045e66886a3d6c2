/**
 * Waiters of a semaphore under every interleaving fast-check can think of: members of different
 * weights come and go, the limit changes, and each waiter hears of its guards alone, late. Nobody may
 * be admitted beyond the limit, and nobody may be left waiting although there is room.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  begin,
  type LineEffect,
  type LineEvent,
  type LineState,
  type Place,
  type Policy,
  step,
} from '../../recipes/line/line.ts';
import type { LineView } from '../../recipes/line/line-membership.ts';
import { encodeLineRecord } from '../../recipes/line/line-record.ts';
import {
  decodeLimit,
  encodeLimit,
  permitBlocker,
  permitReach,
} from '../../recipes/locks/permits.ts';
import { Room } from '../../recipes/locks/room.ts';

type StoreEvent =
  | { readonly revision: bigint; readonly gone: string }
  | { readonly revision: bigint; readonly limit: number };

const placeOf = (key: string, createRevision: bigint, weight: number): Place => ({
  key,
  createRevision,
  modRevision: createRevision,
  value: Buffer.from(encodeLineRecord({ sinceMs: 0, meta: {}, terms: { weight } })),
});

class ModelStore {
  revision = 1n;
  limit: number;
  /** In line order. */
  places: (Place & { readonly weight: number })[] = [];
  readonly events: StoreEvent[] = [];
  /** By revision: permits taken up to each key, and the limit. */
  readonly takenUpTo = new Map<bigint, { limit: number; upTo: ReadonlyMap<string, number> }>();

  constructor(limit: number) {
    this.limit = limit;
  }

  create(key: string, weight: number): bigint {
    this.revision += 1n;
    this.places.push({ ...placeOf(key, this.revision, weight), weight });
    this.#record();
    return this.revision;
  }

  remove(key: string): void {
    if (!this.places.some((place) => place.key === key)) return;
    this.revision += 1n;
    this.places = this.places.filter((place) => place.key !== key);
    this.events.push({ revision: this.revision, gone: key });
    this.#record();
  }

  resize(limit: number): void {
    this.revision += 1n;
    this.limit = limit;
    this.events.push({ revision: this.revision, limit });
    this.#record();
  }

  view(own: bigint, reach: number): LineView {
    const ahead = this.places.filter(({ createRevision }) => createRevision < own).slice(-reach);
    const value = Buffer.from(encodeLimit({ declared: 1, limit: this.limit }));
    const beside = { key: 'limit', value, createRevision: 1n, modRevision: 1n } as never;
    return { own, revision: this.revision, ahead, isPartial: ahead.length >= reach, beside };
  }

  #record(): void {
    let taken = 0;
    const upTo = new Map(
      this.places.map(({ key, weight }) => {
        taken += weight;
        return [key, taken];
      }),
    );
    this.takenUpTo.set(this.revision, { limit: this.limit, upTo });
  }
}

const limitOf = ({ beside }: LineView): number => decodeLimit(beside)?.limit ?? 0;

class ModelMember {
  readonly key: string;
  readonly weight: number;
  readonly store: ModelStore;
  readonly #declared: number;
  state: LineState;
  requests: LineEffect[] = [];
  answers: { event: LineEvent; view: LineView | undefined }[] = [];
  looks = 0;
  #view: LineView | undefined;
  #watch: { room: Room; place: Place; heard: number } | undefined;

  constructor(store: ModelStore, key: string, weight: number, declared: number) {
    this.store = store;
    this.key = key;
    this.weight = weight;
    this.#declared = declared;
    const first = begin();
    this.state = first.state;
    this.run(first.effects);
  }

  readonly #policy: Policy = () => this.#view && permitBlocker(this.weight, this.#view);

  dispatch(event: LineEvent): void {
    const next = step(this.#policy, this.state, event);
    this.state = next.state;
    this.run(next.effects);
  }

  run(effects: readonly LineEffect[]): void {
    for (const effect of effects) {
      switch (effect.kind) {
        case 'join':
        case 'look':
        case 'withdraw':
          this.requests.push(effect);
          break;
        case 'watch-ahead': {
          if (this.#view === undefined) throw new Error('a watch without a view');
          const { revision } = this.#view;
          const heard = this.store.events.filter((event) => event.revision <= revision).length;
          this.#watch = { room: new Room(this.weight, this.#view), place: effect.place, heard };
          break;
        }
        case 'unwatch-ahead':
          this.#watch = undefined;
          break;
        case 'granted': {
          const { limit, upTo } = this.store.takenUpTo.get(effect.token) ?? { limit: 0 };
          const taken = upTo?.get(this.key) ?? Number.POSITIVE_INFINITY;
          if (taken > limit) throw new Error(`${this.key} has ${taken} of ${limit}`);
          break;
        }
        default:
          break;
      }
    }
  }

  serve(): void {
    const request = this.requests.shift();
    const { store, key } = this;
    if (request?.kind === 'join') {
      const own = store.create(key, this.weight);
      const view = store.view(own, permitReach(this.#declared));
      this.answers.push({ event: { kind: 'joined', own, ahead: view.ahead }, view });
    } else if (request?.kind === 'look') {
      this.looks += 1;
      const limit = this.#view === undefined ? this.#declared : limitOf(this.#view);
      const view = store.view(request.own, permitReach(limit));
      const own = store.places.find((place) => place.key === key)?.createRevision;
      const { ahead, revision } = view;
      this.answers.push({ event: { kind: 'looked', own, ahead, revision }, view });
    } else if (request?.kind === 'withdraw') {
      store.remove(key);
      this.answers.push({ event: { kind: 'left' }, view: undefined });
    }
  }

  answer(): void {
    const answer = this.answers.shift();
    if (answer === undefined) return;
    const { view, event } = answer;
    if (view !== undefined) this.#view = view;
    if (this.state.kind !== 'held' && view !== undefined && this.weight > limitOf(view)) {
      this.dispatch({ kind: 'refused', error: new Error('too heavy') });
      this.requests.push({ kind: 'withdraw', own: undefined });
    } else this.dispatch(event);
  }

  /** The watches tell one thing that happened, if it is about what they are on. */
  notice(): void {
    const watch = this.#watch;
    if (watch === undefined) return;
    const { room, place } = watch;
    const event = this.store.events[watch.heard];
    if (event !== undefined) watch.heard += 1;
    if (event !== undefined && 'limit' in event) room.setLimit(event.limit);
    else if (event !== undefined && room.guards.includes(event.gone)) room.left(event.gone);
    if (room.mayHaveRoom) this.dispatch({ kind: 'ahead-gone', place });
  }

  get isQuiet(): boolean {
    const { heard } = this.#watch ?? { heard: this.store.events.length };
    return (
      this.requests.length === 0 &&
      this.answers.length === 0 &&
      heard >= this.store.events.length &&
      this.#watch?.room.mayHaveRoom !== true
    );
  }
}

const actions = [
  'serve',
  'serve',
  'answer',
  'answer',
  'notice',
  'leave',
  'resize',
  'spawn',
] as const;

/** When all have heard everything: nobody waits who has room, or never will. */
function checkRoom(store: ModelStore, members: readonly ModelMember[]): void {
  const { limit, upTo } = store.takenUpTo.get(store.revision) ?? { limit: store.limit };
  for (const { key, state, weight } of members) {
    if (state.kind !== 'waiting') continue;
    const taken = upTo?.get(key) ?? 0;
    if (taken <= limit || weight > limit) {
      throw new Error(`${key} waits with ${taken} of ${limit} permits taken`);
    }
  }
}

/** Nothing happens any more but what is under way: whoever holds leaves, and all get their turn. */
function drain(store: ModelStore, members: readonly ModelMember[]): void {
  for (let round = 0; round < 10_000; round += 1) {
    for (const member of members) {
      member.serve();
      member.answer();
      member.notice();
    }
    if (members.some((member) => !member.isQuiet)) continue;
    checkRoom(store, members);
    const holder = members.find(({ state }) => state.kind === 'held');
    if (holder === undefined) break;
    holder.dispatch({ kind: 'leave' });
  }
  const waiting = members.filter(({ state }) => state.kind !== 'out').map(({ key }) => key);
  if (waiting.length > 0) throw new Error(`there is room, and nobody told ${waiting.join(', ')}`);
}

test('no interleaving admits too many, or leaves anybody waiting although there is room', () => {
  const script = fc.array(fc.tuple(fc.constantFrom(...actions), fc.nat(1_000)), {
    minLength: 20,
    maxLength: 200,
  });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), script, (limit, steps) => {
      const store = new ModelStore(limit);
      const members: ModelMember[] = [];
      const spawn = (pick: number) => {
        const weight = 1 + (pick % 3);
        members.push(new ModelMember(store, `q/${members.length}`, weight, limit));
      };
      for (const pick of [0, 1, 2, 3]) spawn(pick);
      for (const [action, pick] of steps) {
        const member = members[pick % members.length];
        switch (action) {
          case 'serve':
            member?.serve();
            break;
          case 'answer':
            member?.answer();
            break;
          case 'notice':
            member?.notice();
            break;
          case 'leave':
            member?.dispatch({ kind: 'leave' });
            break;
          case 'resize':
            if (pick % 4 === 0) store.resize(1 + (pick % 7));
            break;
          case 'spawn':
            if (members.length < 16) spawn(pick);
        }
      }
      drain(store, members);
    }),
    { numRuns: 1_500 },
  );
});

test('a waiter far from the front has as many guards as shut it out, and some to spare', () => {
  const store = new ModelStore(3);
  for (let index = 0; index < 100; index += 1) store.create(`q/${index}`, 1);
  const own = store.create('q/own', 1);
  const room = new Room(1, store.view(own, permitReach(3)));
  expect(room.guards).toEqual(['q/99', 'q/98', 'q/97', 'q/96', 'q/95']);
  expect(room.isWholeLine).toBe(false);
  for (const key of ['q/95', 'q/0', 'q/97']) room.left(key);
  expect(room.mayHaveRoom).toBe(false);
  room.left('q/98');
  expect(room.mayHaveRoom).toBe(true);
});

test('what is seen of a longer line admits nobody, and is reason to look further', () => {
  const store = new ModelStore(2);
  for (let index = 0; index < 9; index += 1) store.create(`q/${index}`, 1);
  const own = store.create('q/own', 1);
  store.resize(8);
  // By the limit that was declared, not enough for the one in force.
  const view = store.view(own, permitReach(2));
  expect(permitBlocker(1, view)?.key).toBe('q/8');
  expect(new Room(1, view).mayHaveRoom).toBe(true);
  const further = store.view(own, permitReach(8));
  expect(permitBlocker(1, further)?.key).toBe('q/8');
  expect(new Room(1, further).mayHaveRoom).toBe(false);
});
