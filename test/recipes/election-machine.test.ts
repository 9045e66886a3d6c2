/**
 * The machine of the election by priority under every interleaving fast-check can think of: members
 * stand, lead, hand over, give up, lose sessions and keys, while answers and views arrive late.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  begin,
  type PriorityEffect,
  type PriorityEvent,
  type PriorityState,
  type Roll,
  step,
} from '../../recipes/election/priority.ts';

type Candidate = { readonly created: bigint; readonly priority: number };
type Snapshot = {
  readonly revision: bigint;
  readonly candidates: ReadonlyMap<string, Candidate>;
  readonly leader: { readonly key: string; readonly term: bigint } | undefined;
};

/** The keys of an election, as of each revision. */
class ModelStore {
  readonly history: Snapshot[] = [{ revision: 1n, candidates: new Map(), leader: undefined }];

  get now(): Snapshot {
    return this.history.at(-1) as Snapshot;
  }

  change(
    alter: (candidates: Map<string, Candidate>, revision: bigint) => Snapshot['leader'],
  ): bigint {
    const revision = this.now.revision + 1n;
    const candidates = new Map(this.now.candidates);
    const leader = alter(candidates, revision);
    this.history.push({ revision, candidates, leader });
    return revision;
  }

  enter(key: string, priority: number): Snapshot {
    this.change((candidates, revision) => {
      const alone = candidates.size === 0 && this.now.leader === undefined;
      candidates.set(key, { created: revision, priority });
      return alone ? { key, term: revision } : this.now.leader;
    });
    return this.now;
  }

  /** With the leader key, if it names this one: what a session's end and a withdrawal do. */
  remove(key: string): void {
    if (!this.now.candidates.has(key) && this.now.leader?.key !== key) return;
    this.change((candidates) => {
      candidates.delete(key);
      return this.now.leader?.key === key ? undefined : this.now.leader;
    });
  }
}

class Member {
  state: PriorityState = { kind: 'joining' };
  term: bigint | undefined;
  /** The last revision of the store that it was shown. */
  seen = 0;
  dead = false;
  readonly pending: (() => void)[] = [];
  readonly key: string;
  readonly priority: number;
  readonly #store: ModelStore;
  readonly #granted: (member: Member, term: bigint) => void;

  constructor(
    key: string,
    priority: number,
    store: ModelStore,
    granted: (member: Member, term: bigint) => void,
  ) {
    this.key = key;
    this.priority = priority;
    this.#store = store;
    this.#granted = granted;
    this.#run(begin().effects);
  }

  dispatch(event: PriorityEvent): void {
    const next = step(this.key, this.state, event);
    this.state = next.state;
    if (this.state.kind !== 'held') this.term = undefined;
    this.#run(next.effects);
  }

  roll({ revision, candidates, leader }: Snapshot): Roll {
    const own = candidates.get(this.key);
    const above = [...candidates].filter(
      ([key, { created, priority }]) =>
        key !== this.key &&
        own !== undefined &&
        (priority > own.priority || (priority === own.priority && created < own.created)),
    ).length;
    return { revision, rewound: false, own: own?.created, leader, above, request: undefined };
  }

  /** The watch delivers the next revision. */
  watch(): void {
    if (this.seen === 0) return;
    const snapshot = this.#store.history[this.seen];
    if (snapshot === undefined) return;
    this.seen += 1;
    this.dispatch({ kind: 'saw', roll: this.roll(snapshot) });
  }

  #run(effects: readonly PriorityEffect[]): void {
    for (const effect of effects) {
      if (effect.kind === 'granted') {
        this.term = effect.term;
        this.#granted(this, effect.term);
      }
      const work = this.#work(effect);
      if (work) this.pending.push(work);
    }
  }

  /** What an effect does to the store when it gets there; its answer is one more thing that is late. */
  #work(effect: PriorityEffect): (() => void) | undefined {
    const store = this.#store;
    const answer = (event: PriorityEvent) => this.pending.push(() => this.dispatch(event));
    switch (effect.kind) {
      case 'join':
        return () => {
          if (this.dead) return;
          const entered = store.enter(this.key, this.priority);
          const at = store.history.length;
          this.pending.push(() => {
            this.seen = at;
            this.dispatch({ kind: 'joined', roll: this.roll(entered) });
          });
        };
      case 'wait-turn':
        return () => this.dispatch({ kind: 'due' });
      case 'take':
        return () => {
          const { leader, candidates } = store.now;
          if (candidates.get(this.key)?.created !== effect.own) answer({ kind: 'own-gone' });
          else if (leader?.key === this.key) answer({ kind: 'took', term: leader.term });
          else if (leader) answer({ kind: 'beaten', term: leader.term });
          else {
            const term = store.change((_, revision) => ({ key: this.key, term: revision }));
            answer({ kind: 'took', term });
          }
        };
      case 'withdraw':
        return () => {
          const { leader, candidates } = store.now;
          const heir = [...candidates.keys()].find((key) => key !== this.key);
          if (effect.term !== undefined && leader?.term === effect.term && heir) {
            store.change((standing, revision) => {
              standing.delete(this.key);
              return { key: heir, term: revision };
            });
          } else store.remove(this.key);
          answer({ kind: 'left' });
        };
      default:
        return undefined;
    }
  }
}

const action = fc.oneof(
  fc.record({ kind: fc.constant('stand' as const), priority: fc.nat(2) }),
  ...(['deliver', 'watch'] as const).map((kind) =>
    fc.record({ kind: fc.constant(kind), member: fc.nat(5), at: fc.nat(3) }),
  ),
  ...(['deliver', 'watch'] as const).map((kind) =>
    fc.record({ kind: fc.constant(kind), member: fc.nat(5), at: fc.nat(3) }),
  ),
  ...(['leave', 'lose-session', 'lose-key', 'lose-leader'] as const).map((kind) =>
    fc.record({ kind: fc.constant(kind), member: fc.nat(5), at: fc.constant(0) }),
  ),
);

test('no interleaving yields two leaders of a term, a term that falls, or a vacancy that nobody fills', () => {
  let terms = 0;
  fc.assert(
    fc.property(fc.array(action, { minLength: 60, maxLength: 200 }), (actions) => {
      const store = new ModelStore();
      const members: Member[] = [];
      const led = new Map<bigint, string>();
      const granted = ({ key }: Member, term: bigint) => {
        expect(led.get(term) ?? key).toBe(key);
        led.set(term, key);
        // It was really made the leader, at the revision that the term says.
        const then = store.history.find(({ revision }) => revision === term);
        expect(then?.leader).toEqual({ key, term });
      };
      for (const each of actions) {
        if (each.kind === 'stand') {
          if (members.length < 6) {
            members.push(new Member(`m${members.length}`, each.priority, store, granted));
          }
          continue;
        }
        const member = members[each.member % Math.max(1, members.length)];
        if (member === undefined) continue;
        if (each.kind === 'deliver') {
          member.pending.splice(each.at % Math.max(1, member.pending.length), 1)[0]?.();
        } else if (each.kind === 'watch') member.watch();
        else if (each.kind === 'leave') member.dispatch({ kind: 'leave' });
        else if (each.kind === 'lose-session') {
          member.dead = true;
          store.remove(member.key);
          member.dispatch({ kind: 'session-lost' });
        } else if (each.kind === 'lose-key') store.remove(member.key);
        else if (store.now.leader) store.change(() => undefined);
      }
      // Everything under way arrives, and the watches catch up.
      for (let round = 0; round < 60; round++) {
        for (const member of members) {
          member.pending.shift()?.();
          member.watch();
        }
      }
      const { leader, candidates } = store.now;
      const waiting = members.filter(({ state }) => state.kind === 'waiting');
      if (waiting.length > 0 && candidates.size > 0) expect(leader).toBeDefined();
      const leading = members.filter(({ state }) => state.kind === 'held');
      expect(leading.length).toBeLessThanOrEqual(1);
      for (const { key, term } of leading) expect(leader).toEqual({ key, term });
      terms += led.size;
    }),
    { numRuns: 2_000 },
  );
  // The schedules are not all about nothing.
  expect(terms).toBeGreaterThan(2_000);
});

const at = (revision: bigint, more: Partial<Roll> = {}): Roll => ({
  revision,
  rewound: false,
  own: 5n,
  leader: undefined,
  above: 0,
  request: undefined,
  ...more,
});
const waiting: PriorityState = { kind: 'waiting', own: 5n, armed: undefined, since: 0n };
const held: PriorityState = { kind: 'held', own: 5n, term: 9n, weighing: undefined };

test('a view from before a lost race does not start another one; a later vacancy does', () => {
  const taking = step('me', waiting, { kind: 'saw', roll: at(6n) });
  expect(taking.effects).toContainEqual({ kind: 'take', own: 5n });
  const beaten = step('me', taking.state, { kind: 'beaten', term: 8n });
  expect(beaten.state).toMatchObject({ kind: 'waiting', since: 8n });
  expect(step('me', beaten.state, { kind: 'saw', roll: at(7n) }).effects).toEqual([]);
  const again = step('me', beaten.state, { kind: 'saw', roll: at(10n) });
  expect(again.effects).toContainEqual({ kind: 'take', own: 5n });
});

test('a vacancy that was seen while another won is not forgotten', () => {
  const taking = step('me', waiting, { kind: 'saw', roll: at(6n) });
  const later = step('me', taking.state, { kind: 'saw', roll: at(12n) });
  const beaten = step('me', later.state, { kind: 'beaten', term: 8n });
  expect(beaten.effects).toContainEqual({ kind: 'take', own: 5n });
});

test('a term is not ended by what is older than it, unless the store ran backwards', () => {
  expect(step('me', held, { kind: 'saw', roll: at(8n) }).state).toBe(held);
  const later = step('me', held, { kind: 'saw', roll: at(10n) });
  expect(later.state).toMatchObject({ kind: 'out', end: { kind: 'place-lost' } });
  const rewound = step('me', held, { kind: 'saw', roll: at(8n, { rewound: true }) });
  expect(rewound.state).toMatchObject({ kind: 'out', end: { kind: 'place-lost' } });
});

test('a request is weighed from the start whenever it was away', () => {
  const leader = { key: 'me', term: 9n };
  const request = { key: 'you', createRevision: 7n, priority: 3 };
  const asked = step('me', held, { kind: 'saw', roll: at(10n, { leader, request }) });
  expect(asked.effects).toEqual([{ kind: 'weigh', rival: request }]);
  const away = step('me', asked.state, { kind: 'saw', roll: at(11n, { leader }) });
  expect(away.effects).toEqual([{ kind: 'cancel-weighing' }]);
  expect(step('me', away.state, { kind: 'ripe', key: 'you' }).effects).toEqual([]);
  const back = step('me', away.state, { kind: 'saw', roll: at(12n, { leader, request }) });
  expect(back.effects).toEqual([{ kind: 'weigh', rival: request }]);
  const ripe = step('me', back.state, { kind: 'ripe', key: 'you' });
  expect(ripe.effects).toEqual([{ kind: 'asked', key: 'you' }]);
});

test('nothing is granted once a member has left, whatever is still under way', () => {
  const taking = step('me', waiting, { kind: 'saw', roll: at(6n) });
  const left = step('me', taking.state, { kind: 'leave' });
  expect(left.effects).toContainEqual({ kind: 'withdraw', own: 5n, term: undefined });
  const leader = { key: 'me', term: 7n };
  for (const event of [
    { kind: 'took', term: 7n },
    { kind: 'saw', roll: at(8n, { leader }) },
    { kind: 'due' },
  ] as const) {
    expect(step('me', left.state, event)).toEqual({ state: left.state, effects: [] });
  }
});
