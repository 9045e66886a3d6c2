/** The calls of one party of a cyclic barrier, each safe to repeat, and what it leaves in the store. */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { firstAttempt } from '../line/line-membership.ts';
import { goneKey, randomId } from '../names.ts';
import { type BreakReason, BrokenBarrierError } from './broken.ts';
import { type CyclicEvent, type CyclicRecord, type CyclicView, judge } from './cyclic.ts';
import {
  brokenBy,
  type CyclicKeys,
  completed,
  decodeRecord,
  encodeRecord,
  firstRecord,
  unreadable,
} from './cyclic-record.ts';
import { partiesDiffer } from './double-record.ts';
import { directMusterMax, type Mustered, muster } from './muster.ts';

export type CyclicPlan = {
  /** For messages. */
  readonly what: string;
  readonly keys: CyclicKeys;
  readonly parties: number;
  /** What the party writes into its key. */
  readonly value: string;
  readonly recheckMs: number;
  /** The record when last seen by this session: a guess that the store checks. */
  readonly known: { record: CyclicRecord | undefined };
};

export class CyclicCalls {
  readonly member: string;
  readonly #session: Session;
  readonly #plan: CyclicPlan;
  #generation = 0;
  #own: bigint | undefined;
  /** Copies of the entry that may still be on their way. */
  #lingering = 0;
  #counted: readonly Mustered[] = [];

  constructor(session: Session, plan: CyclicPlan) {
    this.#session = session;
    this.#plan = plan;
    this.member = `${session.id}-${randomId(session.client.random)}`;
  }

  get key(): string {
    return this.#plan.keys.folder(this.#generation) + this.member;
  }

  beginEntry(): void {
    const { parties, known } = this.#plan;
    // What was known may have been reset or forgotten since.
    if (known.record?.broken || known.record?.parties !== parties) known.record = undefined;
  }

  /**
   * Enters the generation that is open, as far as is known; undefined when it was another one.
   *
   * @throws what the store answers
   */
  async attemptEntry(): Promise<CyclicEvent | undefined> {
    const { parties, known, what } = this.#plan;
    const record = known.record ?? firstRecord(parties);
    const { generation, broken } = record;
    if (broken) {
      const error = new BrokenBarrierError(what, generation, broken.reason, broken);
      return { kind: 'refused', error };
    }
    if (record.parties !== parties) {
      return { kind: 'refused', error: partiesDiffer(what, record.parties, parties) };
    }
    this.#generation = generation;
    const entered = await this.#tryEnter(record);
    if (entered !== undefined || this.#lingering === 0) return entered;
    return { kind: 'refused', error: this.#overtaken(generation) };
  }

  /** An answer was lost: a copy of the entry may still be on its way. */
  doubtEntry(): void {
    this.#lingering += 1;
  }

  /** The own position, for a party that was there before. */
  async locate(generation: number, own: bigint, signal: AbortSignal): Promise<CyclicEvent> {
    const { kv } = this.#session.client;
    const prefix = this.#plan.keys.folder(generation);
    const listed = await kv.list({ prefix }, { keysOnly: true, signal });
    const position = listed.kvs.filter(({ createRevision }) => createRevision <= own).length;
    return { kind: 'located', position, view: await this.look(generation, own, signal) };
  }

  async look(
    generation: number,
    own: bigint | undefined,
    signal: AbortSignal,
  ): Promise<CyclicView> {
    const txn = this.#session.client.kv
      .txn()
      .then<readonly Operation[]>(...this.#reads(generation, own));
    const { responses, revision } = await txn.commit({ signal });
    return this.#seen(revision, responses);
  }

  /** Declares the generation complete if all its parties are there. */
  async trip(generation: number, own: bigint, signal: AbortSignal): Promise<CyclicView> {
    const { keys, parties, known } = this.#plan;
    const { client, id } = this.#session;
    const prefix = keys.folder(generation);
    const record = this.#recordOf(generation);
    let counted = this.#counted;
    if (counted.length !== parties) {
      const fields = { order: 'create', limit: parties, keysOnly: true, signal } as const;
      counted = (await client.kv.list({ prefix }, fields)).kvs;
    }
    if (counted.length < parties) return this.look(generation, own, signal);
    const next = completed(record);
    const result = await muster(
      this.#session,
      {
        keys: counted,
        conditions: [
          compare.value(keys.record, '==', encodeRecord(record)),
          compare.version(keys.arrivals(generation), '==', BigInt(parties)),
        ],
        writes: [
          op.put(keys.record, encodeRecord(next)),
          op.delete(keys.arrivals(generation)),
          op.delete({ prefix: keys.folder(generation - 1) }),
        ],
        reads: this.#reads(generation, own),
        sealPrefix: `${keys.seals(generation)}${id}-${randomId(client.random)}/`,
      },
      signal,
    );
    const { revision } = result;
    if (!result.succeeded) return this.#seen(revision, result.responses);
    known.record = next;
    return { revision, record: next, own, arrivals: parties, present: parties, elder: undefined };
  }

  /** Declares the generation broken unless it has ended. Resolves to the record as it is then. */
  async breakOff(generation: number, reason: BreakReason): Promise<CyclicRecord | undefined> {
    const { keys, known } = this.#plan;
    const { client, id } = this.#session;
    const since = new Date(client.clock.wallMs());
    for (;;) {
      const open = this.#recordOf(generation);
      const broken = brokenBy(open, { reason, by: id, since });
      const result = await client.kv
        .txn()
        .if(compare.value(keys.record, '==', encodeRecord(open)))
        .then(
          op.put(keys.record, encodeRecord(broken)),
          op.delete({ prefix: keys.folder(generation) }),
          op.delete({ prefix: keys.seals(generation) }),
          op.delete(keys.arrivals(generation)),
        )
        .else(op.get(keys.record))
        .commit();
      const record = result.succeeded ? broken : decodeRecord(result.responses[0]);
      known.record = record;
      const isOpen = record?.generation === generation && record.broken === undefined;
      if (!isOpen) return record;
    }
  }

  /** Removes what this party may have in the store. Idempotent; true when it is gone for good. */
  async remove(): Promise<boolean> {
    const { client, lease } = this.#session;
    const mark = this.#lingering > 0 ? [op.put(goneKey(this.member), '', { lease })] : [];
    if (this.#own === undefined && mark.length === 0) return true;
    try {
      await client.kv
        .txn()
        .then(op.delete(this.key), ...mark)
        .commit();
    } catch (error) {
      // No lease, no key: neither now nor later.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    return true;
  }

  /** One attempt; undefined when another generation is open. */
  async #tryEnter(record: CyclicRecord): Promise<CyclicEvent | undefined> {
    const { client, lease } = this.#session;
    const { keys, parties, known, value } = this.#plan;
    const { generation } = record;
    const { key } = this;
    const folder = keys.folder(generation);
    const arrivals = keys.arrivals(generation);
    const limit = parties <= directMusterMax ? parties : 2;
    const entry = [
      op.put(key, value, { lease }),
      op.put(arrivals, ''),
      op.get(arrivals),
      op.list({ prefix: folder }, { order: 'create', descending: true, limit, keysOnly: true }),
      // What is left of generations that have ended. The last one stays until the next is complete: a
      // party whose answer was lost finds there that it was among it.
      op.delete({ from: keys.folders, to: keys.folder(generation - 1) }),
    ] as const;
    const first = firstAttempt(key, this.member);
    const isAbsent = compare.createRevision(keys.record, '==', 0n);
    // Somebody removed the record: who waited has been told, and what they left does not count.
    const clear = client.kv
      .txn()
      .if(isAbsent, compare.createRevision(arrivals, '!=', 0n))
      .then(op.delete(arrivals), op.delete({ prefix: keys.folders }));
    const begin = client.kv
      .txn()
      .if(...first, isAbsent, compare.createRevision(arrivals, '==', 0n))
      .then<readonly Operation[]>(...entry, op.put(keys.record, encodeRecord(record)))
      .else<readonly Operation[]>(op.txn(clear));
    const result = await client.kv
      .txn()
      .if(
        ...first,
        compare.value(keys.record, '==', encodeRecord(record)),
        compare.version(arrivals, '<', BigInt(parties)),
      )
      .then<readonly Operation[]>(...entry)
      .else<readonly Operation[]>(
        op.get(key),
        op.get(keys.record),
        op.get(arrivals),
        ...(generation === 1 ? [op.txn(begin)] : []),
      )
      .commit();
    const { revision } = result;
    const [self, stored, arrived, begun] = result.responses;
    const inner = begun as { succeeded: boolean; responses: readonly unknown[] } | undefined;
    const created = result.succeeded ? result.responses : inner?.succeeded && inner.responses;
    if (created) {
      this.#own = revision;
      const listed = created[3] as ListResult;
      const position = Number((created[2] as KeyValue | null)?.version ?? 0n);
      this.#counted = [...listed.kvs].reverse();
      const view: CyclicView = {
        revision,
        record,
        own: revision,
        arrivals: position,
        present: Number(listed.count),
        elder: listed.kvs[1],
      };
      return { kind: 'entered', generation, position, view };
    }
    const own = (self as KeyValue | null)?.createRevision;
    if (own !== undefined) {
      this.#own = own;
      this.#lingering -= 1;
      return { kind: 'found', generation, own };
    }
    const now = this.#decode(stored as KeyValue | null);
    known.record = now ?? firstRecord(parties);
    const isSame = now?.generation === generation && now.broken === undefined;
    const count = Number((arrived as KeyValue | null)?.version ?? 0n);
    return isSame && count >= parties ? { kind: 'full', generation, revision } : undefined;
  }

  /**
   * The generation ended while it was not known whether this party had entered it, and what it left
   * there is gone. To enter the next one might make it wait twice for one turn.
   */
  #overtaken(generation: number): ConclaveError {
    const { known, what } = this.#plan;
    const verdict = judge(generation, known.record);
    if (verdict !== undefined && 'reason' in verdict && verdict.reason !== 'unknown') {
      return new BrokenBarrierError(what, generation, verdict.reason, verdict.broken);
    }
    const message = `${what}: generation ${generation} ended before this party knew whether it was in it`;
    return new ConclaveError('OUTCOME_UNKNOWN', message);
  }

  /** @throws ConclaveError CODEC */
  #decode(stored: KeyValue | null): CyclicRecord | undefined {
    const record = decodeRecord(stored);
    if (record !== undefined || stored === null) return record;
    throw unreadable(this.#plan.keys);
  }

  #reads(generation: number, own: bigint | undefined): Operation[] {
    const { keys } = this.#plan;
    const prefix = keys.folder(generation);
    const elder = { order: 'create', descending: true, limit: 1, keysOnly: true } as const;
    return [
      op.get(keys.folder(generation) + this.member),
      op.get(keys.record),
      op.get(keys.arrivals(generation)),
      op.list({ prefix }, own === undefined ? elder : { ...elder, maxCreateRevision: own - 1n }),
    ];
  }

  /** @throws ConclaveError MISMATCH */
  #seen(revision: bigint, [self, stored, arrived, listed]: readonly unknown[]): CyclicView {
    const { parties, known, what } = this.#plan;
    const record = decodeRecord(stored as KeyValue | null);
    known.record = record;
    const theirs = record?.parties ?? parties;
    if (theirs !== parties) throw partiesDiffer(what, theirs, parties);
    const { kvs, count } = listed as ListResult;
    this.#counted = [];
    return {
      revision,
      record,
      own: (self as KeyValue | null)?.createRevision,
      arrivals: Number((arrived as KeyValue | null)?.version ?? 0n),
      present: Number(count),
      elder: kvs[0],
    };
  }

  /** The record while this generation is open, as it is written. */
  #recordOf(generation: number): CyclicRecord {
    const { known, parties } = this.#plan;
    const { record } = known;
    if (record?.generation === generation && record.broken === undefined) return record;
    return { ...firstRecord(parties), generation };
  }
}
