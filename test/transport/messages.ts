/** Arbitrary messages of Raft, valid as the algorithm makes them. */
import fc from 'fast-check';
import type { Configuration } from '../../server/raft/configuration.ts';
import type { Entry, EntryKind, Message } from '../../server/raft/message.ts';

export const FROM = 0x1111_2222_3333_4444n;
export const TO = 0xffff_eeee_dddd_ccccn;

const number = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.maxSafeInteger().map(Math.abs),
  fc.constantFrom(0, 127, 128, 16_383, 16_384, 2 ** 31 - 1, 2 ** 31, 2 ** 49, 2 ** 53 - 1),
);
const positive = number.map((value) => Math.max(1, value));
const id = fc.bigInt({ min: 1n, max: 2n ** 64n - 1n });
const ids = fc
  .uniqueArray(id, { maxLength: 5 })
  .map((list) => list.sort((a, b) => (a < b ? -1 : 1)));
const data: fc.Arbitrary<Uint8Array> = fc.oneof(
  fc.uint8Array({ maxLength: 40 }),
  // Around the size from which content travels by reference.
  fc.integer({ min: 2_040, max: 2_056 }).map((length) => new Uint8Array(length).fill(length)),
);
const kind = fc.constantFrom<EntryKind>('command', 'no-op', 'configuration');

const envelope = <T extends object>(body: fc.Arbitrary<T>) =>
  fc.tuple(body, positive).map(([fields, term]) => ({ ...fields, from: FROM, to: TO, term }));

const append = fc
  .record({
    prevIndex: fc.integer({ min: 0, max: 2 ** 52 }),
    commit: number,
    // The terms of an append rise from the one before its entries to its own.
    terms: fc.array(positive, { minLength: 2, maxLength: 12 }),
    contents: fc.array(fc.record({ kind, data }), { maxLength: 10 }),
    isFirst: fc.boolean(),
  })
  .map(({ prevIndex, commit, terms, contents, isFirst }) => {
    const rising = [...terms].sort((a, b) => a - b);
    const last = rising.at(-1) ?? 1;
    const entries = contents.map(
      ({ kind, data }, at): Entry => ({
        index: prevIndex + 1 + at,
        term: rising[at + 1] ?? last,
        kind,
        data,
      }),
    );
    const prevTerm = isFirst ? 0 : (rising[0] ?? 1);
    const term = last;
    return { kind: 'append' as const, prevIndex, prevTerm, entries, commit, term };
  })
  .map((fields) => ({ ...fields, from: FROM, to: TO }));

const configuration: fc.Arbitrary<Configuration> = fc.record({
  voters: ids,
  outgoing: ids,
  learners: ids,
  learnersNext: ids,
  autoLeave: fc.boolean(),
});

const last = { lastIndex: number, lastTerm: number };
const verdict = { granted: fc.boolean(), commitIndex: number, commitTerm: number };
const of = <K extends Message['kind']>(name: K) => fc.constant(name);

export const message: fc.Arbitrary<Message> = fc.oneof(
  envelope(fc.record({ kind: of('pre-vote'), ...last })),
  envelope(fc.record({ kind: of('pre-vote-response'), ...verdict })),
  envelope(fc.record({ kind: of('vote'), ...last, transfer: fc.boolean() })),
  envelope(fc.record({ kind: of('vote-response'), ...verdict })),
  append,
  envelope(fc.record({ kind: of('append-accepted'), matchIndex: number })),
  envelope(
    fc.record({
      kind: of('append-rejected'),
      rejectedIndex: number,
      hintIndex: number,
      hintTerm: number,
    }),
  ),
  envelope(fc.record({ kind: of('heartbeat'), commit: number, context: number })),
  envelope(fc.record({ kind: of('heartbeat-response'), context: number, matchIndex: number })),
  envelope(fc.record({ kind: of('timeout-now'), lastIndex: number })),
  envelope(fc.record({ kind: of('read-index'), incarnation: id, request: number })),
  envelope(
    fc.record({ kind: of('read-index-response'), incarnation: id, request: number, index: number }),
  ),
  envelope(
    fc.record({ kind: of('snapshot'), index: positive, indexTerm: positive, configuration }),
  ),
  envelope(
    fc.record({
      kind: of('propose'),
      incarnation: id,
      request: number,
      proposals: fc.array(fc.record({ kind, data }), { maxLength: 5 }),
    }),
  ),
  envelope(
    fc.record({
      kind: of('propose-refused'),
      incarnation: id,
      request: number,
      reason: fc.constantFrom(
        'not-leader',
        'transferring',
        'overloaded',
        'change-pending',
        'not-ready',
      ),
    }),
  ),
);
