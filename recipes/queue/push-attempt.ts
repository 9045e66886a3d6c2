/**
 * The transaction that pushes jobs: all of them or none, however often it is repeated. Jobs whose key
 * is taken by an unfinished one are left out, or replace that one; those whose key is remembered are
 * left out.
 */
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, Kv } from '../../sdk/kv.ts';
import { type Compare, compare, type Operation, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { unchanged } from './job-moves.ts';
import { arrival, lineKey } from './job-places.ts';
import { encodeState, type JobState } from './job-record.ts';
import { isRemembered } from './key-memory.ts';
import { lightData } from './light-jobs.ts';
import type { Along, NewJob, Producer, Pushed } from './producer.ts';
import type { Lane } from './push-lanes.ts';
import type { KnownLimits } from './queue-limits.ts';
import type { RoomRead } from './queue-room.ts';
import { type Replacement, replacementOf } from './replacement.ts';
import { passTurns } from './turns.ts';

export type PushedOne = Pushed;

type Item = {
  readonly job: NewJob;
  readonly id: string;
  readonly keys: QueueKeys;
  readonly state: JobState;
  readonly dedupKey: string | undefined;
};

export class PushAttempt {
  readonly #producer: Producer;
  readonly #lane: Lane;
  readonly #limits: KnownLimits;
  readonly #along: Along | undefined;
  /** What tells this push from others in its lane. */
  readonly #mark: string;
  readonly #results: (Pushed | undefined)[];
  readonly #items: readonly Item[];
  /** What to do about an unfinished job with the key of the only one pushed. */
  #replacement: Replacement | undefined;

  constructor(
    producer: Producer,
    jobs: readonly NewJob[],
    ids: readonly string[],
    lane: Lane,
    limits: KnownLimits,
    along?: Along,
  ) {
    this.#producer = producer;
    this.#along = along;
    this.#lane = lane;
    this.#limits = limits;
    this.#mark = ids[0] ?? '';
    this.#items = jobs.map((job, index) => itemOf(producer, jobs, ids, job, index));
    const first = new Map<string, string>();
    this.#results = this.#items.map(({ id, dedupKey }) => {
      if (dedupKey === undefined) return undefined;
      const before = first.get(dedupKey);
      first.set(dedupKey, before ?? id);
      return before === undefined ? undefined : { id: before, duplicate: true };
    });
  }

  /** Jobs that are still to be pushed. */
  get left(): number {
    return this.#results.filter((result) => result === undefined).length;
  }

  /**
   * Looks whose keys are taken already: nothing is added for those, so they need no room.
   *
   * @returns what became of all when nothing is left to push
   */
  async recognise(signal: AbortSignal): Promise<readonly Pushed[] | undefined> {
    const { client } = this.#producer;
    const keys = this.#items.flatMap(({ dedupKey, job }, index) =>
      dedupKey === undefined || job.replaces || this.#results[index] ? [] : [dedupKey],
    );
    if (keys.length === 0) return undefined;
    const read = client.kv.txn().then(...keys.map((key) => op.get(key)));
    const { responses } = await untilAnswered(client, () => read.commit({ signal }), signal);
    for (const occupant of responses) if (occupant) this.#isTaken(occupant);
    return this.left === 0 ? this.#all(undefined) : undefined;
  }

  /** undefined when something was not as known, and the push may be repeated. */
  async commit(signal: AbortSignal): Promise<readonly Pushed[] | undefined> {
    const { client, room } = this.#producer;
    const { kv } = client;
    const lane = this.#lane;
    const replacement = this.#replacement;
    const along = this.#along === undefined ? [] : [this.#along];
    const bounded = this.#limits.current.capacity !== undefined;
    const items = this.#items.filter((_, index) => this.#results[index] === undefined);
    const keyed = items.flatMap(({ dedupKey }) => (dedupKey === undefined ? [] : [dedupKey]));
    const conditions: Compare[] = [
      compare.modRevision(lane.key, '==', lane.revision),
      this.#limits.asKnown,
      ...(bounded ? [room.unchanged] : []),
      ...along.map(unchanged),
      ...(replacement?.conditions ??
        keyed.map((dedupKey) => compare.createRevision(dedupKey, '==', 0n))),
    ];
    const crowds = crowdsOf(items);
    const operations = items.map((item) => this.#operations(item, crowds, replacement, bounded));
    const beside = [
      op.put(lane.key, this.#mark, { lease: lane.session.lease }),
      ...(bounded ? [op.put(this.#producer.keys.gate, this.#mark), op.txn(room.read)] : []),
      ...along.map(({ key, value }) => op.put(key, value)),
    ];
    const result = await kv
      .txn()
      .if(...conditions)
      .then(...beside, ...withinLevel(kv, operations, beside.length))
      .else(
        op.get(lane.key),
        op.get(this.#producer.keys.limits),
        op.get(this.#along?.key ?? lane.key),
        ...keyed.map((dedupKey) => op.get(dedupKey)),
      )
      .commit({ signal });
    this.#producer.heard(result.revision);
    const responses: readonly unknown[] = result.responses;
    if (result.succeeded) {
      lane.revision = result.revision;
      if (bounded) room.see(responses[2] as RoomRead, items.length);
      await this.#passTurns(crowds, responses.some(linesUp) ? items : [], signal);
      return this.#all(replacement?.replaced);
    }
    const [inLane, limits, moved, ...occupants] = responses as readonly (KeyValue | null)[];
    // Also when this very push moved the gate, and only its answer was lost.
    room.doubt();
    lane.revision = inLane?.modRevision ?? 0n;
    if (inLane && textOf(inLane.value) === this.#mark) return this.#all(replacement?.replaced);
    if (this.#along !== undefined && moved?.modRevision !== this.#along.revision) {
      const message = `Somebody else has moved ${this.#along.key}`;
      throw new ConclaveError('CONFLICT', message, { retryable: false });
    }
    this.#limits.see(limits);
    this.#replacement = undefined;
    for (const occupant of occupants) {
      if (!occupant) continue;
      const item = this.#items.find(({ dedupKey }) => dedupKey === occupant.key);
      if (item?.job.replaces && !isRemembered(occupant)) {
        this.#replacement = await replacementOf(client, item.keys, occupant, item, signal);
      } else {
        this.#isTaken(occupant);
      }
    }
    return this.left === 0 ? this.#all(undefined) : undefined;
  }

  /** Also by those that were duplicates of the first with this key, whose id is none of a job now. */
  #isTaken(occupant: KeyValue): void {
    const result = { id: textOf(occupant.value), duplicate: true };
    for (const [index, { dedupKey }] of this.#items.entries()) {
      if (dedupKey === occupant.key) this.#results[index] = result;
    }
  }

  #operations(
    item: Item,
    crowds: Crowds,
    replacement: Replacement | undefined,
    bounded: boolean,
  ): Operation[] {
    const { kv } = this.#producer.client;
    const { id, keys, job, state, dedupKey } = item;
    // Who waits for room watches records.
    const data = bounded ? undefined : lightData(job.payload, state, job.dueMs);
    if (data !== undefined) return [arrival(kv, keys, id, { ...state, data })];
    const turns = this.#limits.current.groupConcurrency ?? 1;
    const isOwn = keys === this.#producer.keys;
    const isParent = state.isParent === true;
    const crowd = crowds.get(crowdOf(item));
    const entry = isParent
      ? op.put(keys.blocked + id, encodeState(state))
      : crowd !== undefined
        ? op.put(lineKey(keys, crowd.group, id, state), encodeState(state))
        : arrival(kv, keys, id, state, { dueMs: job.dueMs, callForTurn: turns > 1 || !isOwn });
    return [
      op.put(keys.job + id, job.payload),
      ...(replacement?.operations ?? [entry]),
      ...(dedupKey === undefined ? [] : [op.put(dedupKey, id)]),
      ...(crowd?.last === id ? [op.put(keys.pass + crowd.group, this.#mark)] : []),
      ...(state.parent === undefined ? [] : [op.put(waitKey(item, this.#items), '')]),
    ];
  }

  /** Jobs line up in groups that may have free turns. A sweep does what fails here. */
  async #passTurns(crowds: Crowds, linedUp: readonly Item[], signal: AbortSignal): Promise<void> {
    const { client } = this.#producer;
    const groups = new Map<string, { keys: QueueKeys; group: string }>(crowds);
    if ((this.#limits.current.groupConcurrency ?? 1) > 1) {
      for (const { keys, state } of linedUp) {
        if (state.group !== undefined)
          groups.set(keys.pass + state.group, { keys, group: state.group });
      }
    }
    for (const { keys, group } of groups.values()) {
      await passTurns(client, keys, group, signal).catch(() => undefined);
    }
  }

  #all(replaced: string | undefined): readonly Pushed[] {
    return this.#items.map(
      ({ id }, index) =>
        this.#results[index] ?? {
          id,
          duplicate: false,
          ...(replaced === undefined ? {} : { replaced }),
        },
    );
  }
}

function itemOf(
  producer: Producer,
  jobs: readonly NewJob[],
  ids: readonly string[],
  job: NewJob,
  index: number,
): Item {
  const id = ids[index] ?? '';
  const keys = job.keys ?? producer.keys;
  const link = job.parent;
  const above = link === undefined ? undefined : jobs[link.index];
  const parent =
    link === undefined || above === undefined
      ? {}
      : {
          parent: {
            queue: (above.keys ?? producer.keys).name,
            id: ids[link.index] ?? '',
            onFailure: link.onFailure,
          },
        };
  const state: JobState = { ...job.state, ...parent };
  const dedupKey = state.dedup === undefined ? undefined : keys.dedup + state.dedup;
  return { job, id, keys, state, dedupKey };
}

/** Servers bound the operations of one level: many are nested, as one operation for each job. */
const withinLevel = (
  kv: Kv,
  jobs: readonly Operation[][],
  beside: number,
): readonly Operation[] => {
  const flat = jobs.flat();
  return beside + flat.length <= operationsOfLevel
    ? flat
    : jobs.map((operations) => op.txn(kv.txn().then(...operations)));
};

/**
 * Of 128, which servers allow on any way from the outermost level to the innermost: what is nested in one
 * of these are at most the 7 reads of the room.
 */
const operationsOfLevel = 121;

type Crowd = {
  readonly keys: QueueKeys;
  readonly group: string;
  /** The job that calls for a look at the group's turns. */
  readonly last: string;
};

/** By the key of the group's mark. */
type Crowds = ReadonlyMap<string, Crowd>;

/** The group an item arrives in, as the key of its mark; '' for none. */
const crowdOf = ({ keys, state, job }: Item): string =>
  state.group === undefined || state.isParent || job.dueMs !== undefined
    ? ''
    : keys.pass + state.group;

/**
 * Groups in which several jobs arrive at once. All of those line up: a transaction writes each key
 * once, and so it cannot decide for each of them whether it gets the turn.
 */
function crowdsOf(items: readonly Item[]): Crowds {
  const crowds = new Map<string, Crowd>();
  const seen = new Set<string>();
  for (const item of items) {
    const crowd = crowdOf(item);
    const { group } = item.state;
    if (seen.has(crowd) && crowd !== '' && group !== undefined) {
      crowds.set(crowd, { keys: item.keys, group, last: item.id });
    }
    seen.add(crowd);
  }
  return crowds;
}

/** The key that stands for a child beside its parent. */
function waitKey({ id, state }: Item, items: readonly Item[]): string {
  const parent = items.find((item) => item.id === state.parent?.id);
  return `${parent?.keys.wait}${parent?.id}/${id}`;
}

/** The answer of an `arrival` that has to wait for a turn, alone or within the operations of a job. */
function linesUp(response: unknown): boolean {
  if (typeof response !== 'object' || response === null || !('succeeded' in response)) return false;
  if (response.succeeded === false) return true;
  return 'responses' in response && Array.isArray(response.responses)
    ? response.responses.some(linesUp)
    : false;
}

const textOf = (value: Uint8Array): string => Buffer.from(value).toString('utf8');
