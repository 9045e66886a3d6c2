/**
 * What must be true of the keys of queues after every revision: every job is in one place, and what
 * is reserved for jobs names those that have it. Pure functions of what the store did.
 */
import type { QueueKeys } from '../../recipes/names.ts';
import type { Commit } from './store.ts';

type PlaceKind = 'ready' | 'line' | 'at' | 'blocked' | 'claim' | 'dead';

const placeKinds = ['ready', 'line', 'at', 'blocked', 'claim', 'dead'] as const;

/** What an entry says of its job. */
type State = {
  readonly group?: string;
  readonly turn?: number;
  readonly slot?: number;
  readonly nonce?: string;
  readonly dedup?: string;
  readonly parent?: { readonly queue: string; readonly id: string };
  /** The payload of a light job. */
  readonly data?: string;
};

type Entry = {
  readonly kind: PlaceKind;
  readonly key: string;
  readonly state: State;
  readonly revision: number;
};
type Order = { readonly next?: { readonly id: string; readonly state: State } };

export type QueuePromises = {
  /** Jobs that run at a time, at most. */
  readonly concurrency?: number | undefined;
  /** Jobs of a group that have a turn, at most. */
  readonly groupConcurrency: number;
};

/** The levels of a key behind a prefix. */
const levels = (key: string, prefix: string): string[] => key.slice(prefix.length).split('/');
const lastLevel = (key: string): string => key.slice(key.lastIndexOf('/') + 1);

export class QueueSpace {
  readonly name: string;
  readonly #keys: QueueKeys;
  readonly #promises: QueuePromises;
  readonly #jobs = new Set<string>();
  /** By id: where the job is; more than one only if something is wrong. */
  readonly #places = new Map<string, Entry[]>();
  /** By key: everything that is not a payload or a place. */
  readonly #others = new Map<string, string>();
  /** By group: when a turn was last called for. */
  readonly #called = new Map<string, number>();

  constructor(keys: QueueKeys, promises: QueuePromises) {
    this.name = keys.name;
    this.#keys = keys;
    this.#promises = promises;
  }

  /** @returns what is wrong with how turns were given by this commit, then with what it left */
  apply({ revision, changes }: Commit): string | undefined {
    const turnsBefore = this.#byPrefix(this.#keys.turn);
    const linesBefore = this.#entriesOf('line');
    const calledBefore = new Map(this.#called);
    let isTouched = false;
    for (const { key, entry } of changes) {
      if (!key.startsWith(this.#keys.root)) continue;
      isTouched = true;
      this.#set(key, entry?.value, revision);
    }
    if (!isTouched) return undefined;
    return this.#unfair(turnsBefore, linesBefore, calledBefore) ?? this.wrong();
  }

  /** Jobs that are not finished. */
  get left(): readonly string[] {
    return [...this.#places].flatMap(([id, [entry]]) => (entry?.kind === 'dead' ? [] : [id]));
  }

  has(id: string): boolean {
    return this.#jobs.has(id);
  }

  /** Whether a job of the other queue waits for this one; see `waitsForNobody`. */
  waits(): readonly { readonly parent: string; readonly child: string }[] {
    return [...this.#byPrefix(this.#keys.wait).keys()].map((key) => {
      const [parent = '', child = ''] = levels(key, this.#keys.wait);
      return { parent, child };
    });
  }

  wrong(): string | undefined {
    return (
      this.#misplaced() ??
      this.#wrongTurns() ??
      this.#wrongSlots() ??
      this.#wrongOrders() ??
      this.#wrongParents() ??
      this.#wrongDedup()
    );
  }

  #set(key: string, value: string | undefined, revision: number): void {
    const { job, pass } = this.#keys;
    if (key.startsWith(pass)) {
      const group = key.slice(pass.length);
      if (value === undefined) this.#called.delete(group);
      else this.#called.set(group, revision);
    }
    if (key.startsWith(job)) {
      if (value === undefined) this.#jobs.delete(key.slice(job.length));
      else this.#jobs.add(key.slice(job.length));
      return;
    }
    const kind = placeKinds.find((each) => key.startsWith(this.#keys[each]));
    if (kind === undefined) {
      if (value === undefined) this.#others.delete(key);
      else this.#others.set(key, value);
      return;
    }
    const id = lastLevel(key);
    const elsewhere = (this.#places.get(id) ?? []).filter((entry) => entry.key !== key);
    const here =
      value === undefined ? [] : [{ kind, key, state: JSON.parse(value) as State, revision }];
    const all = [...elsewhere, ...here];
    if (all.length === 0) this.#places.delete(id);
    else this.#places.set(id, all);
  }

  #byPrefix(prefix: string): Map<string, string> {
    return new Map([...this.#others].filter(([key]) => key.startsWith(prefix)));
  }

  #entriesOf(kind: PlaceKind): readonly Entry[] {
    return [...this.#places.values()].flat().filter((entry) => entry.kind === kind);
  }

  #orders(): ReadonlyMap<string, Order> {
    const { cancel } = this.#keys;
    return new Map(
      [...this.#byPrefix(cancel)].map(([key, value]) => [
        key.slice(cancel.length),
        JSON.parse(value) as Order,
      ]),
    );
  }

  /** Every job is in one place, and every place has a job. */
  #misplaced(): string | undefined {
    const places = new Map([...this.#places].map(([id, all]) => [id, all.length]));
    for (const { next } of this.#orders().values()) {
      if (next !== undefined) places.set(next.id, (places.get(next.id) ?? 0) + 1);
    }
    for (const [id, count] of places) {
      if (count !== 1) {
        const where = this.#places.get(id)?.map(({ key }) => key) ?? [];
        return `job ${id} is in ${count} places: ${where.join(', ')}`;
      }
      const [entry] = this.#places.get(id) ?? [];
      const isLight = entry?.state.data !== undefined;
      if (isLight === this.#jobs.has(id)) {
        return `job ${id} has ${isLight ? 'two payloads' : 'no payload'}`;
      }
      const { ready, claim } = this.#keys;
      if (isLight && entry.key !== ready + id && entry.key !== claim + id) {
        return `job ${id} has no record, and its id does not tell that it is at ${entry.key}`;
      }
    }
    for (const id of this.#jobs) if (!places.has(id)) return `job ${id} is nowhere`;
    return undefined;
  }

  #wrongTurns(): string | undefined {
    const { turn, pass } = this.#keys;
    const { groupConcurrency } = this.#promises;
    const turns = this.#byPrefix(turn);
    const taken = new Map<string, number>();
    for (const [key, id] of turns) {
      const [group = '', number = ''] = levels(key, turn);
      taken.set(group, (taken.get(group) ?? 0) + 1);
      const [entry] = this.#places.get(id) ?? [];
      const isThere =
        entry !== undefined &&
        (entry.kind === 'ready' || entry.kind === 'at' || entry.kind === 'claim') &&
        entry.state.group === group &&
        entry.state.turn === Number(number);
      if (!isThere) return `${key} names ${id}, which is ${entry?.key} with ${entry?.state.turn}`;
    }
    for (const [group, count] of taken) {
      if (count > groupConcurrency) return `group ${group} has ${count} turns`;
    }
    for (const [id, entries] of this.#places) {
      for (const { state, key } of entries) {
        if (state.group === undefined || state.turn === undefined) continue;
        const named = turns.get(`${turn}${state.group}/${state.turn}`);
        if (named !== id) return `${key} has turn ${state.turn}, which names ${named}`;
      }
    }
    for (const { key } of this.#entriesOf('line')) {
      const [group = ''] = levels(key, this.#keys.line);
      const isFree = (taken.get(group) ?? 0) < groupConcurrency;
      if (isFree && !this.#others.has(pass + group)) {
        return `${key} waits, a turn of the group is free, and nothing calls for it`;
      }
    }
    return undefined;
  }

  #wrongSlots(): string | undefined {
    const { slot } = this.#keys;
    const slots = this.#byPrefix(slot);
    const claims = this.#entriesOf('claim');
    const { concurrency } = this.#promises;
    if (concurrency === undefined) return undefined;
    if (claims.length > concurrency) return `${claims.length} jobs run at a time`;
    for (const [key, nonce] of slots) {
      const holders = claims.filter(({ state }) => state.nonce === nonce);
      const [holder] = holders;
      if (holders.length !== 1 || `${slot}${holder?.state.slot}` !== key) {
        return `${key} is held by ${holders.map((each) => each.key).join(', ') || 'nobody'}`;
      }
    }
    const without = claims.find(({ state }) => slots.get(`${slot}${state.slot}`) !== state.nonce);
    return without && `${without.key} does not have its slot ${without.state.slot}`;
  }

  #wrongOrders(): string | undefined {
    for (const id of this.#orders().keys()) {
      const isClaimed = this.#places.get(id)?.some(({ kind }) => kind === 'claim');
      if (!isClaimed) return `there is an order to stop ${id}, which does not run`;
    }
    return undefined;
  }

  #wrongParents(): string | undefined {
    const waiting = new Set(this.waits().map(({ parent }) => parent));
    for (const { key } of this.#entriesOf('blocked')) {
      const id = lastLevel(key);
      if (!waiting.has(id) && !this.#others.has(this.#keys.freed + id)) {
        return `${id} waits for no child, and nobody lets it go`;
      }
    }
    return undefined;
  }

  #wrongDedup(): string | undefined {
    const { dedup } = this.#keys;
    const successors = [...this.#orders().values()].flatMap(({ next }) => next ?? []);
    for (const [key, id] of this.#byPrefix(dedup)) {
      const [entry] = this.#places.get(id) ?? [];
      const state = entry?.state ?? successors.find((next) => next.id === id)?.state;
      if (entry?.kind === 'dead' || state?.dedup !== key.slice(dedup.length)) {
        return `${key} names ${id}, which does not have that key`;
      }
    }
    return undefined;
  }

  /**
   * Jobs get turns in the order of their group's line, and nobody gets one past it. Whoever passes a
   * turn on has read the line some time after it was called for, so it may not see who came since.
   */
  #unfair(
    turnsBefore: ReadonlyMap<string, string>,
    linesBefore: readonly Entry[],
    calledBefore: ReadonlyMap<string, number>,
  ): string | undefined {
    const { turn } = this.#keys;
    for (const [key, id] of this.#byPrefix(turn)) {
      // Whoever takes another's place takes its turn along.
      if (turnsBefore.has(key)) continue;
      const [group = ''] = levels(key, turn);
      const inGroup = linesBefore.filter(({ state }) => state.group === group);
      const before = inGroup.find((entry) => lastLevel(entry.key) === id);
      const overtaken = inGroup.find(
        (entry) =>
          lastLevel(entry.key) !== id &&
          (before === undefined ||
            (entry.key < before.key && entry.revision <= (calledBefore.get(group) ?? 0))) &&
          this.#places.get(lastLevel(entry.key))?.some(({ kind }) => kind === 'line'),
      );
      if (overtaken !== undefined) return `${id} got a turn before ${overtaken.key}`;
    }
    return undefined;
  }
}

/** The payloads of the jobs that are left, finished ones excepted, dead ones included. */
export const payloadsLeft = (
  keys: QueueKeys,
  entries: Iterable<readonly [string, { readonly value: string }]>,
): readonly string[] =>
  [...entries].flatMap(([key, { value }]) => {
    if (key.startsWith(keys.job)) return [value];
    if (!key.startsWith(keys.ready) && !key.startsWith(keys.claim)) return [];
    const { data } = JSON.parse(value) as State;
    return data === undefined ? [] : [data];
  });

/** Every child that a parent waits for is there, in one of the queues. */
export function waitsForNobody(spaces: readonly QueueSpace[]): string | undefined {
  for (const space of spaces) {
    for (const { parent, child } of space.waits()) {
      if (!spaces.some((each) => each.has(child))) {
        return `${parent} of ${space.name} waits for ${child}, which does not exist`;
      }
    }
  }
  return undefined;
}
