/**
 * The line machine under every interleaving fast-check can think of: members join, wait, release, give
 * up, lose sessions and keys, while requests, answers and watch events arrive late and answers get lost.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  begin,
  exclusive,
  type LineEffect,
  type LineEvent,
  type LineState,
  type Place,
  step,
} from '../../recipes/line/line.ts';

const noValue = new Uint8Array();

/** Keys with create revisions, and every delete that ever happened. */
class ModelStore {
  revision = 1n;
  readonly keys = new Map<string, bigint>();
  readonly deletes: { key: string; revision: bigint }[] = [];
  /** The line as of each revision, in order. */
  readonly history = new Map<bigint, string[]>();

  create(key: string): bigint {
    this.revision += 1n;
    this.keys.set(key, this.revision);
    this.#record();
    return this.revision;
  }

  remove(key: string, createRevision?: bigint): void {
    const found = this.keys.get(key);
    if (found === undefined || (createRevision !== undefined && found !== createRevision)) return;
    this.revision += 1n;
    this.keys.delete(key);
    this.deletes.push({ key, revision: this.revision });
    this.#record();
  }

  /** Something unrelated happens in the store. */
  bump(): void {
    this.revision += 1n;
    this.#record();
  }

  nearestBelow(createRevision: bigint): Place[] {
    return [...this.keys]
      .map(([key, created]) => ({
        key,
        createRevision: created,
        modRevision: created,
        value: noValue,
      }))
      .filter((place) => place.createRevision < createRevision)
      .sort((a, b) => (a.createRevision < b.createRevision ? 1 : -1))
      .slice(0, 1);
  }

  deletedSince(key: string, from: bigint): boolean {
    return this.deletes.some((entry) => entry.key === key && entry.revision >= from);
  }

  #record(): void {
    const order = [...this.keys].sort(([, a], [, b]) => (a < b ? -1 : 1)).map(([key]) => key);
    this.history.set(this.revision, order);
  }
}

class ModelMember {
  readonly key: string;
  readonly store: ModelStore;
  state: LineState;
  requests: LineEffect[] = [];
  answers: LineEvent[] = [];
  ahead: { place: Place; from: bigint } | undefined;
  own: bigint | undefined;
  rechecks = 0;
  grants: { token: bigint; createRevision: bigint }[] = [];
  ends = 0;
  leaseAlive = true;
  left = false;
  grantedAfterLeaving = false;

  constructor(store: ModelStore, key: string) {
    this.store = store;
    this.key = key;
    const first = begin();
    this.state = first.state;
    this.run(first.effects);
  }

  dispatch(event: LineEvent): void {
    this.left ||= event.kind === 'leave';
    const next = step(exclusive, this.state, event);
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
        case 'watch-ahead':
          this.ahead = effect;
          break;
        case 'unwatch-ahead':
          this.ahead = undefined;
          break;
        case 'watch-own':
          this.own ??= effect.own;
          break;
        case 'unwatch-own':
          this.own = undefined;
          break;
        case 'granted':
          this.grantedAfterLeaving ||= this.left;
          this.grants.push({ token: effect.token, createRevision: effect.own });
          break;
        case 'ended':
          this.ends += 1;
          break;
        case 'recheck-later':
        case 'cancel-recheck':
          break;
      }
    }
  }

  /** The store handles the oldest request; its answer is lost when `drop` is set. */
  serve(drop: boolean): void {
    const request = this.requests.shift();
    if (request === undefined) return;
    const { store, key } = this;
    let answer: LineEvent;
    if (request.kind === 'join') {
      if (!this.leaseAlive) answer = { kind: 'lease-gone' };
      else if (store.keys.has(key)) {
        answer = { kind: 'found', own: store.keys.get(key) as bigint };
      } else {
        const own = store.create(key);
        answer = { kind: 'joined', own, ahead: store.nearestBelow(own) };
      }
    } else if (request.kind === 'look') {
      answer = {
        kind: 'looked',
        own: store.keys.get(key),
        ahead: store.nearestBelow(request.own),
        revision: store.revision,
      };
    } else if (request.kind === 'withdraw') {
      store.remove(key, request.own);
      answer = { kind: 'left' };
    } else {
      throw new Error(`not a request: ${request.kind}`);
    }
    // A lost answer is followed by a repetition, as the driver does for as long as it matters.
    if (!drop) this.answers.push(answer);
    else if (request.kind !== 'join' || this.state.kind === 'joining') this.requests.push(request);
  }

  answer(index: number): void {
    const [event] = this.answers.splice(index % Math.max(1, this.answers.length), 1);
    if (event) this.dispatch(event);
  }

  notice(): void {
    if (this.ahead && this.store.deletedSince(this.ahead.place.key, this.ahead.from)) {
      this.dispatch({ kind: 'ahead-gone', place: this.ahead.place });
    }
  }

  noticeOwn(): void {
    if (this.own !== undefined && this.store.deletedSince(this.key, this.own + 1n)) {
      this.dispatch({ kind: 'own-gone' });
    }
  }

  /** The session knows before the store acts: its deadline is the earlier one. */
  loseSession(): void {
    this.dispatch({ kind: 'session-lost' });
  }

  expire(): void {
    if (this.state.kind !== 'out') return;
    this.leaseAlive = false;
    this.store.remove(this.key);
  }

  get settled(): boolean {
    return this.requests.length === 0 && this.answers.length === 0;
  }
}

const actions = [
  'serve',
  'serve',
  'serve',
  'answer',
  'answer',
  'notice',
  'noticeOwn',
  'drop',
  'leave',
  'loseSession',
  'expire',
  'operator',
  'recheck',
  'bump',
  'spawn',
] as const;

function act(store: ModelStore, members: ModelMember[], action: string, pick: number): void {
  const member = members[pick % members.length] as ModelMember;
  switch (action) {
    case 'serve':
      member.serve(false);
      break;
    case 'drop':
      member.serve(true);
      break;
    case 'answer':
      member.answer(pick);
      break;
    case 'notice':
      member.notice();
      break;
    case 'noticeOwn':
      member.noticeOwn();
      break;
    case 'leave':
      member.dispatch({ kind: 'leave' });
      break;
    case 'loseSession':
      if (pick % 3 === 0) member.loseSession();
      break;
    case 'expire':
      member.expire();
      break;
    case 'operator':
      if (pick % 3 === 0) store.remove(member.key);
      break;
    case 'recheck':
      member.dispatch({ kind: 'recheck' });
      break;
    case 'bump':
      store.bump();
      break;
    case 'spawn':
      if (members.length < 12) members.push(new ModelMember(store, `q/${members.length}`));
      break;
  }
}

/** Cheaper than expect, which this runs too often for. */
function must(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

function checkSafety(store: ModelStore, members: readonly ModelMember[]): void {
  const holders = members.filter(
    ({ state, key }) => state.kind === 'held' && store.keys.get(key) === state.own,
  );
  must(holders.length <= 1, 'L1: two holders whose keys stand');
  for (const member of members) {
    must(member.grants.length <= 1, 'one membership is granted once');
    must(!member.grantedAfterLeaving, 'L4: no grant after leaving');
    must(member.ends === (member.state.kind === 'out' ? 1 : 0), 'it ends once');
    for (const { token } of member.grants) {
      must(store.history.get(token)?.[0] === member.key, 'L1, L3: first in line when granted');
    }
  }
}

function checkTokens(members: readonly ModelMember[]): void {
  const grants = members.flatMap(({ grants }) => grants);
  grants.sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
  for (const [index, grant] of grants.entries()) {
    const previous = grants[index - 1];
    must(!previous || grant.token > previous.token, 'tokens rise in the order of the line');
  }
}

/** No more faults: everything under way arrives, holders release. Nobody may be left waiting. */
function drain(store: ModelStore, members: readonly ModelMember[]): void {
  for (let round = 0; round < 40 * members.length; round++) {
    for (const member of members) {
      member.serve(false);
      member.answer(0);
      member.notice();
      member.noticeOwn();
      member.expire();
    }
    checkSafety(store, members);
    const busy = members.some((member) => !member.settled);
    if (busy) continue;
    for (const member of members) {
      if (member.state.kind === 'held') member.dispatch({ kind: 'leave' });
    }
  }
  checkTokens(members);
  must(
    members.every(({ state }) => state.kind === 'out'),
    'L2: all got their turn without a single slow re-read',
  );
  must(store.keys.size === 0, 'nobody left a key behind');
}

test('no interleaving yields two holders, a stale grant, or a waiter that is never woken', () => {
  const script = fc.array(fc.tuple(fc.constantFrom(...actions), fc.nat(1_000)), {
    minLength: 20,
    maxLength: 250,
  });
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 6 }), script, (count, actions) => {
      const store = new ModelStore();
      const members = Array.from({ length: count }, (_, i) => new ModelMember(store, `q/${i}`));
      for (const [action, pick] of actions) {
        act(store, members, action, pick);
        checkSafety(store, members);
      }
      drain(store, members);
    }),
    { numRuns: 2_000 },
  );
});

const place = (key: string, createRevision: bigint): Place => ({
  key,
  createRevision,
  modRevision: createRevision,
  value: noValue,
});

const kinds = (effects: readonly LineEffect[]) => effects.map(({ kind }) => kind);

test('a free line is held by the first answer', () => {
  const next = step(exclusive, begin().state, { kind: 'joined', own: 7n, ahead: [] });
  expect(next.state).toEqual({ kind: 'held', own: 7n, token: 7n });
  expect(kinds(next.effects)).toContain('granted');
});

test('a waiter watches the nearest place from the revision after the answer', () => {
  const next = step(exclusive, begin().state, {
    kind: 'joined',
    own: 7n,
    ahead: [place('q/1', 3n), place('q/2', 5n)],
  });
  expect(next.state.kind).toBe('waiting');
  expect(next.effects[0]).toEqual({ kind: 'watch-ahead', place: place('q/2', 5n), from: 8n });
});

test('a vanished predecessor leads to a look, not to a grant', () => {
  const waiting: LineState = { kind: 'waiting', own: 7n, watched: place('q/2', 5n) };
  const next = step(exclusive, waiting, { kind: 'ahead-gone', place: place('q/2', 5n) });
  expect(next.state).toEqual({ kind: 'looking', own: 7n, watched: undefined });
  expect(next.effects).toContainEqual({ kind: 'look', own: 7n });
});

test('the token of a grant after a wait is the revision of the answer that showed it', () => {
  const looking: LineState = { kind: 'looking', own: 7n, watched: undefined };
  const next = step(exclusive, looking, { kind: 'looked', own: 7n, ahead: [], revision: 30n });
  expect(next.state).toEqual({ kind: 'held', own: 7n, token: 30n });
});

test('a look that finds the own key gone or replaced never grants', () => {
  for (const own of [undefined, 9n]) {
    const looking: LineState = { kind: 'looking', own: 7n, watched: undefined };
    const next = step(exclusive, looking, { kind: 'looked', own, ahead: [], revision: 30n });
    expect(next.state).toEqual({ kind: 'out', end: { kind: 'place-lost' } });
  }
});

test('an answer that arrives after leaving changes nothing', () => {
  const { state } = step(exclusive, begin().state, { kind: 'leave' });
  for (const event of [
    { kind: 'joined', own: 7n, ahead: [] },
    { kind: 'looked', own: 7n, ahead: [], revision: 9n },
    { kind: 'own-gone' },
  ] as const) {
    expect(step(exclusive, state, event)).toEqual({ state, effects: [] });
  }
});

test('a delete seen while looking is not forgotten', () => {
  // The look was sent before the delete: its answer still shows the predecessor.
  const looking: LineState = { kind: 'looking', own: 7n, watched: place('q/2', 5n) };
  const seen = step(exclusive, looking, { kind: 'ahead-gone', place: place('q/2', 5n) });
  const answered = step(exclusive, seen.state, {
    kind: 'looked',
    own: 7n,
    ahead: [place('q/2', 5n)],
    revision: 20n,
  });
  expect(answered.effects).toContainEqual({
    kind: 'watch-ahead',
    place: place('q/2', 5n),
    from: 21n,
  });
});
