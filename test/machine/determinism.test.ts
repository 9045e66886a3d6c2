import fc from 'fast-check';
import { expect, test } from 'vitest';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';
import { command, term } from './arbitraries.ts';
import { call, clusterCommand, membership } from './arbitrary-members.ts';
import { Rig } from './rig.ts';

const entry = fc.record({
  term,
  command: fc.oneof({ weight: 6, arbitrary: command }, clusterCommand, membership),
  call: fc.option(call, { nil: undefined }),
  nowMs: fc.nat(),
});
const register = { kind: 'client-register' } as const;
const registrations = [1, 2, 3].map((nowMs) => ({
  term: 1,
  command: register,
  call: undefined,
  nowMs,
}));
const entries = fc
  .array(entry, { minLength: 1, maxLength: 40, size: 'max' })
  .map((log) => [...registrations, ...log]);

/** What is local to a member: how far physical compaction has come. */
const isReplicated = ([key]: readonly [Uint8Array, Uint8Array]): boolean =>
  Buffer.compare(key, Buffer.from('mcompaction-progress')) !== 0;

/** The whole state as one text: quick to compare. */
const image = (rig: Rig): string =>
  (rig.state as SortedState)
    .dump()
    .map((pair) => pair.map((part) => Buffer.from(part).toString('hex')).join('='))
    .join(' ');

test('a restart or a snapshot at any entry changes neither answers nor state', () => {
  fc.assert(
    fc.property(entries, (log) => {
      const first = new Rig();
      const states = [(first.state as SortedState).copy()];
      const checksums = [first.checksum()];
      const answers = log.map((one) => {
        const { result, events } = first.apply(one.command, one.term, one.call);
        states.push((first.state as SortedState).copy());
        checksums.push(first.checksum());
        return plain({ result, events });
      });
      states.forEach((state, cut) => {
        const second = new Rig(state);
        expect(second.checksum()).toBe(checksums[cut]);
        const rest = log.slice(cut).map((one) => {
          const { result, events } = second.apply(one.command, one.term, one.call);
          return plain({ result, events });
        });
        expect(rest).toEqual(answers.slice(cut));
        expect(image(second)).toBe(image(first));
        expect(second.checksum()).toBe(checksums.at(-1));
      });
    }),
    { numRuns: 40 },
  );
});

/** What is to be known of a client: the oracle for calls that count once. */
type KnownClient = { floor: number; readonly results: Map<number, unknown> };

test('a call takes effect once, and is answered the same until it is forgotten', () => {
  fc.assert(
    fc.property(entries, (log) => {
      const rig = new Rig();
      const clients = new Map<bigint, KnownClient>();
      for (const one of log) {
        const before = image(rig);
        const client = one.call && clients.get(one.call.id);
        const { result, writes } = rig.apply(one.command, one.term, one.call);
        let isExecuted = true;
        if (one.call !== undefined) {
          const floor = Math.max(client?.floor ?? 1, one.call.floor);
          const first = client?.results.get(one.call.sequence);
          if (client === undefined) {
            expect(result).toMatchObject({ code: 'unknown-client' });
            isExecuted = false;
          } else if (one.call.sequence < floor) {
            expect(result).toMatchObject({ code: 'sequence-forgotten' });
            isExecuted = false;
          } else if (first !== undefined) {
            expect(plain(result)).toEqual(first);
            isExecuted = false;
          } else {
            client.floor = floor;
            client.results.set(one.call.sequence, plain(result));
          }
        }
        if (!isExecuted) {
          expect(writes).toEqual([]);
          expect(image(rig)).toBe(before);
        } else if (result.kind === 'client-register') {
          clients.set(result.id, { floor: 1, results: new Map() });
        }
        for (const id of clients.keys()) if (!rig.machine.clients.has(id)) clients.delete(id);
      }
    }),
    { numRuns: 200 },
  );
});

test('physical compaction changes no answer', () => {
  fc.assert(
    fc.property(entries, fc.array(fc.nat({ max: 3 })), (log, pace) => {
      const eager = new Rig(new SortedState(), { compactionStepRecords: 2 });
      const never = new Rig();
      log.forEach((one, index) => {
        const a = eager.apply(one.command, one.term, one.call);
        const b = never.apply(one.command, one.term, one.call);
        expect(plain(a.result)).toEqual(plain(b.result));
        expect(plain(a.events)).toEqual(plain(b.events));
        for (let n = pace[index % (pace.length || 1)] ?? 0; n > 0; n -= 1) eager.compactionStep();
      });
      expect(eager.hash()).toEqual(never.hash());
      never.compactToEnd();
      eager.compactToEnd();
      const keysOf = (rig: Rig) =>
        (rig.state as SortedState)
          .dump()
          .filter(isReplicated)
          .map(([key]) => key);
      expect(keysOf(eager)).toEqual(keysOf(never));
    }),
    { numRuns: 200 },
  );
});

test('the time of an entry decides nothing', () => {
  fc.assert(
    fc.property(entries, (log) => {
      const [one, other] = [new Rig(), new Rig()];
      for (const { command: given, term: at, call: of, nowMs } of log) {
        const a = one.apply(given, at, of);
        const index = other.state.appliedIndex + 1;
        const b = other.machine.apply({ index, term: at, nowMs }, given, other.state, of);
        other.state.apply(index, b.writes);
        expect(b).toEqual(a);
      }
    }),
    { numRuns: 100 },
  );
});
