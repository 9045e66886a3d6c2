import { expect, test } from 'vitest';
import { limits } from '../../server/limits.ts';
import { Crc32c } from '../../server/mvcc/hash.ts';
import { compact, del, grant, put } from '../machine/requests.ts';
import { Rig } from '../machine/rig.ts';

test('the checksum is CRC-32C', () => {
  const crc = new Crc32c();
  expect(crc.value).toBe(0);
  crc.add(Buffer.from('12345'));
  crc.add(Buffer.from('6789'));
  expect(crc.value).toBe(0xe306_9283); // The check value of the CRC catalogue.
});

test('which revision is hashed', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  const first = rig.hash();
  expect(first).toMatchObject({ kind: 'hash', hashRevision: 2, compactRevision: -1 });
  rig.apply(put('a', '2'));
  expect(rig.hash(2)).toEqual(first);
  expect(rig.hash()).toMatchObject({ hashRevision: 3 });
  expect(rig.hash(4)).toMatchObject({ kind: 'fault', code: 'future-revision' });
  rig.apply(compact(3));
  expect(rig.hash(2)).toMatchObject({ kind: 'fault', code: 'compacted' });
  expect(rig.hash(3)).toMatchObject({ compactRevision: 3 });
});

test('everything about a version counts', () => {
  const hashes = [
    [put('a', '1')],
    [put('a', '2')],
    [put('b', '1')],
    [grant(1n), put('a', '1', { lease: 1n })],
    [put('b'), put('a', '1')],
    [put('a', '1'), del('a')],
  ].map((commands) => {
    const rig = new Rig();
    for (const command of commands) rig.apply(command);
    return (rig.hash() as { hash: number }).hash;
  });
  expect(new Set(hashes).size).toBe(hashes.length);
});

test('a checksum taken in pieces is that of its revision; a compaction meanwhile starts it again', () => {
  const rig = new Rig();
  for (let n = 0; n < limits.readSliceKeys * 2; n += 1) rig.apply(put(`k${n}`));
  rig.apply(put('k0', 'again'));
  const at = rig.machine.revision;
  const expected = rig.hash();
  const finish = (hashing: Generator<void, unknown>): unknown => {
    for (let step = hashing.next(); ; step = hashing.next()) if (step.done) return step.value;
  };

  const disturbed = rig.machine.hashKv(rig.state, 0);
  disturbed.next();
  rig.apply(put('k1', 'changed'));
  rig.apply(put('a new key'));
  expect(finish(disturbed)).toEqual(expected);

  const compacted = rig.machine.hashKv(rig.state, at);
  compacted.next();
  rig.apply(compact(at - 1));
  rig.compactToEnd();
  expect(finish(compacted)).toEqual(rig.hash(at));

  const overtaken = rig.machine.hashKv(rig.state, at);
  overtaken.next();
  rig.apply(compact(at + 1));
  expect(finish(overtaken)).toMatchObject({ kind: 'fault', code: 'compacted' });
});
