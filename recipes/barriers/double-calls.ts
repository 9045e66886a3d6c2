/** The calls of one party of a double barrier, each safe to repeat, and what it leaves in the store. */
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { firstAttempt } from '../line/line-membership.ts';
import { goneKey, randomId } from '../names.ts';
import type { DoubleEvent, EntryView, Ready } from './double.ts';
import {
  allLeftRecord,
  type DoubleKeys,
  decodeTerms,
  encodeReady,
  encodeTerms,
  ends,
  type FolderView,
  folderListing,
  partiesDiffer,
  readEnds,
  readFolder,
  type Terms,
  unreadableTerms,
} from './double-record.ts';
import { directMusterMax, type Mustered, muster } from './muster.ts';

export type DoublePlan = {
  /** For messages. */
  readonly what: string;
  readonly keys: DoubleKeys;
  readonly parties: number;
  /** What the party writes into its key. */
  readonly record: string;
  readonly recheckMs: number;
  /** The terms when last seen by this session: a guess that the store checks. */
  readonly known: { terms: Terms | undefined };
};

/** Marks of generations that are over, removed with the next one, at most. */
const marksAtOnce = 8;

type Place = {
  readonly generation: number;
  readonly member: string;
  readonly key: string;
  /** The create revision of the key; undefined while nobody knows whether it is there. */
  own: bigint | undefined;
  /** Copies of the entry that may still be on their way. */
  lingering: number;
};

/** Whether a copy of its entry may still be on its way. */
const mayArrive = ({ lingering }: Place): boolean => lingering > 0;

type Inside = { readonly generation: number; readonly own: bigint; readonly ready: Ready };

export class DoubleCalls {
  readonly #session: Session;
  readonly #plan: DoublePlan;
  /** Where there is, or may be, a key of this party. */
  #places: Place[] = [];
  #current: Place | undefined;
  #counted: readonly Mustered[] = [];
  /** Marks of complete generations, seen while entering. */
  #marks: readonly string[] = [];

  constructor(session: Session, plan: DoublePlan) {
    this.#session = session;
    this.#plan = plan;
  }

  /** The key of the current place. */
  get key(): string {
    return this.#current?.key ?? '';
  }

  get generation(): number {
    return this.#current?.generation ?? 0;
  }

  get mayHaveKeys(): boolean {
    return this.#places.length > 0;
  }

  /** The own generation is complete: another forms. */
  noteReady(): void {
    const { known, parties } = this.#plan;
    const generation = this.generation + 1;
    if ((known.terms?.generation ?? 0) < generation) known.terms = { parties, generation };
  }

  /** Enters the generation that forms, by attempts of which each builds on what the last has learnt. */
  entry(): { attempt(): Promise<DoubleEvent | undefined>; doubt(): void } {
    const { parties, known } = this.#plan;
    const before = [...this.#places];
    // What was known of another number of parties may have been forgotten since.
    if (known.terms?.parties !== parties) known.terms = undefined;
    let place: Place | undefined;
    const attempt = async (): Promise<DoubleEvent | undefined> => {
      const terms = known.terms ?? { parties, generation: 1 };
      if (terms.parties !== parties) {
        return { kind: 'refused', error: partiesDiffer(this.#plan.what, terms.parties, parties) };
      }
      const current =
        place?.generation === terms.generation ? place : this.#newPlace(terms.generation);
      place = current;
      const entered = await this.#tryEnter(current, terms, before);
      if (entered) {
        this.#places = [...before.filter(mayArrive), current];
        this.#current = current;
        return entered;
      }
      // The guess was wrong: nothing was written, unless a copy is still on its way.
      if (!mayArrive(current)) this.#places = this.#places.filter((each) => each !== current);
      place = undefined;
      return undefined;
    };
    const doubt = () => {
      if (place) place.lingering += 1;
    };
    return { attempt, doubt };
  }

  /** Everything that decides whether this party is in. */
  async look(generation: number, signal: AbortSignal): Promise<EntryView> {
    const txn = this.#session.client.kv
      .txn()
      .then<readonly Operation[]>(...this.#reads(generation));
    const { responses, revision } = await txn.commit({ signal });
    return this.#seen(readFolder(revision, responses));
  }

  /** Completes the generation if its oldest parties are all there. */
  async form(generation: number, signal: AbortSignal): Promise<EntryView> {
    const { keys, parties, known } = this.#plan;
    const { client, id } = this.#session;
    let counted = this.#counted;
    if (parties > directMusterMax) {
      const fields = { order: 'create', limit: parties, keysOnly: true, signal } as const;
      const listed = await client.kv.list({ prefix: keys.folder(generation) }, fields);
      counted = listed.kvs;
    }
    const last = counted.at(-1);
    if (last === undefined || counted.length < parties) return this.look(generation, signal);
    const through = last.createRevision;
    const { terms } = known;
    const current = terms?.generation === generation ? terms : { parties, generation };
    const next = { parties, generation: generation + 1 };
    const over = this.#marks.filter((mark) => mark !== keys.ready(generation));
    const result = await muster(
      this.#session,
      {
        keys: counted,
        conditions: [compare.value(keys.terms, '==', encodeTerms(current))],
        writes: [
          op.put(keys.terms, encodeTerms(next)),
          op.put(keys.ready(generation), encodeReady(through, client.clock.wallMs())),
          ...over.map((mark) => this.#removeIfOver(mark)),
        ],
        reads: this.#reads(generation),
        sealPrefix: `${keys.seals(generation)}${id}-${randomId(client.random)}/`,
      },
      signal,
    );
    const { revision } = result;
    if (!result.succeeded) return this.#seen(readFolder(revision, result.responses));
    known.terms = next;
    const own = this.#current?.own;
    return {
      revision,
      own,
      forming: next.generation,
      ready: { through, revision },
      present: parties,
    };
  }

  /** Removes the own key unless it is the oldest; says that all have left if it is alone. */
  async exit({ generation, own, ready }: Inside, signal: AbortSignal): Promise<DoubleEvent> {
    const { keys } = this.#plan;
    const { kv } = this.#session.client;
    const prefix = keys.folder(generation);
    const isOwn = compare.createRevision(this.key, '==', own);
    const isNewest = compare.range.createRevision({ prefix }, '<', own + 1n);
    const say = kv.txn().if(isOwn, isNewest);
    const remove = kv.txn().if(isOwn).then(op.delete(this.key));
    const reads = [op.get(this.key), ...ends(prefix, ready.through)] as const;
    const result = await kv
      .txn()
      // None is older.
      .if(compare.range.createRevision({ prefix }, '>', own - 1n))
      .then(op.txn(say.then(...this.#allLeft(generation))), ...reads)
      .else(op.txn(remove), ...reads)
      .commit({ signal });
    const [acted, ...read] = result.responses;
    if (result.succeeded && acted.succeeded) return { kind: 'all-left' };
    return this.#left(generation, result.revision, read);
  }

  async lookOut({ generation, ready }: Inside, signal: AbortSignal): Promise<DoubleEvent> {
    const reads = [op.get(this.key), ...ends(this.#plan.keys.folder(generation), ready.through)];
    const txn = this.#session.client.kv.txn().then<readonly Operation[]>(...reads);
    const { responses, revision } = await txn.commit({ signal });
    return this.#left(generation, revision, responses);
  }

  async sayAllLeft({ generation, own, ready }: Inside, signal: AbortSignal): Promise<DoubleEvent> {
    const reads = [op.get(this.key), ...ends(this.#plan.keys.folder(generation), ready.through)];
    const result = await this.#session.client.kv
      .txn()
      .if(compare.createRevision(this.key, '==', own))
      .then(...this.#allLeft(generation))
      .else<readonly Operation[]>(...reads)
      .commit({ signal });
    if (result.succeeded) return { kind: 'all-left' };
    return this.#left(generation, result.revision, result.responses);
  }

  /** Removes what this party has or may have in the store. Idempotent; true when it is gone for good. */
  async remove(): Promise<boolean> {
    const { client, lease } = this.#session;
    const { keys, parties } = this.#plan;
    const places = this.#places;
    const operations = places.flatMap(({ key, own, member, lingering }): Operation[] => {
      // A copy of the entry that arrives later must find that its time is over.
      const mark = lingering > 0 ? [op.put(goneKey(member), '', { lease })] : [];
      if (own === undefined) return [op.delete(key), ...mark];
      const isOwn = compare.createRevision(key, '==', own);
      return [op.txn(client.kv.txn().if(isOwn).then(op.delete(key))), ...mark];
    });
    // Whoever counted this one must count again.
    const seals = places.map(({ generation }) => op.delete({ prefix: keys.seals(generation) }));
    const all = [...operations, ...(parties > directMusterMax ? seals : [])];
    try {
      if (all.length > 0)
        await client.kv
          .txn()
          .then<readonly Operation[]>(...all)
          .commit();
    } catch (error) {
      // No lease, no key: neither now nor later.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    this.#places = this.#places.filter((place) => !places.includes(place));
    return true;
  }

  #newPlace(generation: number): Place {
    const { client, id } = this.#session;
    const member = `${id}-${randomId(client.random)}`;
    const key = `${this.#plan.keys.folder(generation)}${member}`;
    const place = { generation, member, key, own: undefined, lingering: 0 };
    this.#places = [...this.#places, place];
    return place;
  }

  /** One attempt; undefined when another generation forms. */
  async #tryEnter(
    place: Place,
    terms: Terms,
    before: readonly Place[],
  ): Promise<DoubleEvent | undefined> {
    const { client, lease } = this.#session;
    const { keys, parties, known, record } = this.#plan;
    const { generation, key, member } = place;
    const moved = before.filter((each) => !mayArrive(each));
    const listings: Operation[] = [
      folderListing(keys.folder(generation), parties),
      op.list({ prefix: keys.marks }, { keysOnly: true, limit: marksAtOnce }),
    ];
    const puts: Operation[] = [
      op.put(key, record, { lease }),
      ...moved.map((each) => op.delete(each.key)),
    ];
    const first = firstAttempt(key, member);
    const begin = client.kv
      .txn()
      .if(...first, compare.createRevision(keys.terms, '==', 0n))
      .then<readonly Operation[]>(...puts, ...listings, op.put(keys.terms, encodeTerms(terms)));
    const txn = client.kv
      .txn()
      .if(...first, compare.value(keys.terms, '==', encodeTerms(terms)))
      .then<readonly Operation[]>(...puts, ...listings)
      .else<readonly Operation[]>(
        op.get(key),
        op.get(keys.terms),
        ...(generation === 1 ? [op.txn(begin)] : []),
      );
    const result = await txn.commit();
    const { revision } = result;
    const [self, stored, begun] = result.responses;
    const inner = begun as { succeeded: boolean; responses: readonly unknown[] } | undefined;
    const created = result.succeeded ? result.responses : inner?.succeeded && inner.responses;
    if (created) {
      place.own = revision;
      const [listed, marks] = created.slice(puts.length) as unknown as [ListResult, ListResult];
      this.#counted = listed.kvs;
      this.#marks = marks.kvs.map((mark) => mark.key);
      const present = Number(listed.count);
      const view = { revision, own: revision, forming: generation, ready: undefined, present };
      return { kind: 'entered', generation, view };
    }
    const own = (self as KeyValue | null)?.createRevision;
    if (own !== undefined) {
      place.own = own;
      place.lingering -= 1;
      return { kind: 'found', generation, own };
    }
    const now = decodeTerms(stored as KeyValue | null);
    if (now === undefined && stored !== null) throw unreadableTerms(keys.terms);
    known.terms = now ?? { parties, generation: 1 };
    return undefined;
  }

  #reads(generation: number): Operation[] {
    const { keys, parties } = this.#plan;
    return [
      op.get(this.key),
      op.get(keys.terms),
      op.get(keys.ready(generation)),
      folderListing(keys.folder(generation), parties),
    ];
  }

  /** Takes note of a view. @throws ConclaveError MISMATCH */
  #seen(view: FolderView): EntryView {
    const { parties, known, what } = this.#plan;
    this.#counted = view.counted;
    known.terms = view.terms;
    const theirs = view.terms?.parties ?? parties;
    if (theirs !== parties) throw partiesDiffer(what, theirs, parties);
    return view;
  }

  #allLeft(generation: number) {
    const { lease } = this.#session;
    const { keys } = this.#plan;
    return [op.put(this.key, allLeftRecord, { lease }), op.delete(keys.ready(generation))] as const;
  }

  #left(generation: number, revision: bigint, reads: readonly unknown[]): DoubleEvent {
    const view = readEnds(revision, reads);
    if (view.own === undefined) this.#places = [];
    if (view.own === undefined && view.oldest === undefined) {
      // Nobody said so, and nobody is left who could.
      this.#session.reap(async () => {
        await this.#session.client.kv.delete(this.#plan.keys.ready(generation));
        return true;
      });
    }
    return { kind: 'exit-viewed', view };
  }

  #removeIfOver(mark: string): Operation {
    const { keys } = this.#plan;
    const prefix = `${keys.folders}${mark.slice(keys.marks.length)}/`;
    const isEmpty = compare.range.createRevision({ prefix }, '==', 0n);
    return op.txn(this.#session.client.kv.txn().if(isEmpty).then(op.delete(mark)));
  }
}
