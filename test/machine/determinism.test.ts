import fc from 'fast-check';
import { expect, test } from 'vitest';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';
import { command, term } from './arbitraries.ts';
import { Rig } from './rig.ts';

const entry = fc.record({ term, command, nowMs: fc.nat() });
const entries = fc.array(entry, { minLength: 1, maxLength: 40, size: 'max' });

/** What is local to a member: how far physical compaction has come. */
const isReplicated = ([key]: readonly [Uint8Array, Uint8Array]): boolean =>
  Buffer.compare(key, Buffer.from('mcompaction-progress')) !== 0;

test('replaying the rest of the log from any prefix gives the same state and answers', () => {
  fc.assert(
    fc.property(entries, fc.nat({ max: 100 }), (log, percent) => {
      const first = new Rig();
      const cut = Math.floor((log.length * percent) / 100);
      let prefix = new SortedState();
      const answers: unknown[] = [];
      log.forEach((one, index) => {
        if (index === cut) prefix = (first.state as SortedState).copy();
        const { result, events } = first.apply(one.command, one.term);
        answers.push(plain({ result, events }));
      });
      const second = new Rig(prefix);
      const again = (cut === log.length ? [] : log.slice(cut)).map((one) => {
        const { result, events } = second.apply(one.command, one.term);
        return plain({ result, events });
      });
      if (cut === log.length) return;
      expect(again).toEqual(answers.slice(cut));
      expect(prefix.dump()).toEqual((first.state as SortedState).dump());
    }),
    { numRuns: 200 },
  );
});

test('physical compaction changes no answer', () => {
  fc.assert(
    fc.property(entries, fc.array(fc.nat({ max: 3 })), (log, pace) => {
      const eager = new Rig(new SortedState(), 2);
      const never = new Rig();
      log.forEach((one, index) => {
        const a = eager.apply(one.command, one.term);
        const b = never.apply(one.command, one.term);
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
      for (const { command: given, term: at, nowMs } of log) {
        const a = one.apply(given, at);
        const index = other.state.appliedIndex + 1;
        const b = other.machine.apply({ index, term: at, nowMs }, given, other.state);
        other.state.apply(index, b.writes);
        expect(b).toEqual(a);
      }
    }),
    { numRuns: 100 },
  );
});
