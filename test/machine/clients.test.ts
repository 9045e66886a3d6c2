import { expect, test } from 'vitest';
import type { ClientCall } from '../../server/clients/call.ts';
import { limits } from '../../server/limits.ts';
import { plain } from '../support/plain.ts';
import type { SortedState } from '../support/sorted-state.ts';
import { del, FROM_KEY, get, grant, put, txn } from './requests.ts';
import { Rig } from './rig.ts';

/** A registered client, and its calls. */
class Caller {
  readonly rig: Rig;
  readonly id: bigint;

  constructor(rig: Rig) {
    this.rig = rig;
    const { result } = rig.apply({ kind: 'client-register' });
    if (result.kind !== 'client-register') throw new Error(`not registered: ${result.kind}`);
    this.id = result.id;
  }

  call(sequence: number, floor = 1): ClientCall {
    return { id: this.id, sequence, floor };
  }

  put(key: string, sequence: number, floor = 1): unknown {
    return this.rig.result(put(key), 1, this.call(sequence, floor));
  }
}

const fault = (code: string) => expect.objectContaining({ kind: 'fault', code });
const clientRecords = (rig: Rig) =>
  (rig.state as SortedState).dump().filter(([key]) => key[0] === 's'.charCodeAt(0));

test('a repeated call returns the first result and changes nothing', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const first = rig.result(put('a', '1', { prevKv: true }), 1, caller.call(1));
  expect(first).toEqual({ kind: 'put', prevKv: undefined, revision: 2 });
  rig.apply(put('a', '2'));
  const before = (rig.state as SortedState).dump();
  const again = rig.apply(put('a', '1', { prevKv: true }), 1, caller.call(1));
  expect(plain(again.result)).toEqual(first);
  expect(again.events).toEqual([]);
  expect(again.writes).toEqual([]);
  expect((rig.state as SortedState).dump()).toEqual(before);
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ value: '2', version: 2 }] });
});

test('whatever the first answer was, a fault too, it is the answer of a repetition', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const leased = put('a', '', { lease: 7n });
  expect(rig.result(leased, 1, caller.call(1))).toEqual(fault('lease-not-found'));
  rig.apply(grant(7n));
  expect(rig.result(leased, 1, caller.call(1))).toEqual(fault('lease-not-found'));
  expect(rig.result(leased, 1, caller.call(2))).toMatchObject({ kind: 'put' });
});

test('calls of different clients with the same number are different', () => {
  const rig = new Rig();
  const [one, other] = [new Caller(rig), new Caller(rig)];
  expect(one.id).not.toBe(other.id);
  expect(one.put('a', 1)).toMatchObject({ revision: 2 });
  expect(other.put('a', 1)).toMatchObject({ revision: 3 });
});

test('what the client needs no more is forgotten and refused', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  for (const sequence of [1, 2, 3]) caller.put('a', sequence);
  expect(caller.put('a', 4, 3)).toMatchObject({ revision: 5 });
  expect(caller.put('a', 2)).toEqual(fault('sequence-forgotten'));
  expect(caller.put('a', 3)).toMatchObject({ revision: 4 });
  expect(caller.put('a', 5, 6)).toEqual(fault('sequence-forgotten'));
  expect(rig.machine.revision).toBe(5);
  rig.restart();
  expect(caller.put('a', 2)).toEqual(fault('sequence-forgotten'));
  expect(caller.put('a', 3)).toMatchObject({ revision: 4 });
});

test('a floor that comes late takes nothing back', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  caller.put('a', 5, 5);
  caller.put('a', 6, 2);
  rig.restart();
  expect(caller.put('a', 4, 1)).toEqual(fault('sequence-forgotten'));
});

test('a client that is not known is told so', () => {
  const rig = new Rig();
  expect(rig.result(put('a'), 1, { id: 5n, sequence: 1, floor: 1 })).toEqual(
    fault('unknown-client'),
  );
  const caller = new Caller(rig);
  caller.put('a', 1);
  expect(rig.result({ kind: 'client-forget', id: caller.id })).toMatchObject({
    kind: 'client-forget',
  });
  expect(caller.put('a', 1)).toEqual(fault('unknown-client'));
  expect(clientRecords(rig)).toEqual([]);
  expect(rig.result({ kind: 'client-forget', id: caller.id })).toMatchObject({
    kind: 'client-forget',
  });
});

test('a client may end itself by a numbered call, which leaves nothing behind', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  rig.apply({ kind: 'client-forget', id: caller.id }, 1, caller.call(1));
  expect(clientRecords(rig)).toEqual([]);
  expect(rig.machine.clients.size).toBe(0);
});

test('the window bounds how far a client may be ahead of what it has heard', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const { clientWindow } = limits;
  expect(caller.put('a', clientWindow)).toMatchObject({ kind: 'put' });
  expect(caller.put('a', clientWindow + 1)).toEqual(fault('too-many-requests'));
  expect(caller.put('a', clientWindow + 1, 2)).toMatchObject({ kind: 'put' });
  expect(caller.put('a', clientWindow + 2, 2)).toEqual(fault('too-many-requests'));
});

test('a refused call leaves no trace and may come again', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const before = clientRecords(rig);
  caller.put('a', limits.clientWindow + 1);
  expect(clientRecords(rig)).toEqual(before);
  expect(caller.put('a', limits.clientWindow + 1, 10)).toMatchObject({ kind: 'put' });
  expect(caller.put('a', 9, 1)).toEqual(fault('sequence-forgotten'));
});

test('a client in step with its answers writes its records over and over', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  for (let sequence = 1; sequence <= 50; sequence += 1) {
    caller.put('a', sequence, Math.max(1, sequence - 3));
  }
  expect(clientRecords(rig)).toHaveLength(1 + 4);
  for (let sequence = 51; sequence <= 80; sequence += 1) caller.put('a', sequence, 48);
  expect(clientRecords(rig)).toHaveLength(1 + 33);
  rig.apply({ kind: 'client-forget', id: caller.id });
  expect(clientRecords(rig)).toEqual([]);
});

test('a client that ends leaves nothing behind, after a start either', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  for (const sequence of [1, 2, 3, 4]) caller.put('a', sequence);
  caller.put('a', 5, 5);
  expect(clientRecords(rig)).toHaveLength(1 + 4);
  rig.restart();
  rig.apply({ kind: 'client-forget', id: caller.id });
  expect(clientRecords(rig)).toEqual([]);
});

test('a result too large to keep is known to have taken effect, and no more', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const half = 'x'.repeat(limits.clientResultBytes / 2);
  for (const key of ['a', 'b']) rig.apply(put(key, half));
  const read = (keys: string) => txn([], [put('n'), ...[...keys].map((key) => get(key))]);
  const small = rig.result(read('a'), 1, caller.call(1));
  expect(rig.result(read('ab'), 1, caller.call(2))).toMatchObject({ kind: 'txn', succeeded: true });
  const { revision } = rig.machine;
  expect(rig.result(read('a'), 1, caller.call(1))).toEqual(small);
  expect(rig.result(read('ab'), 1, caller.call(2))).toEqual(fault('result-forgotten'));
  expect(rig.machine.revision).toBe(revision);
});

test('the results of one client together are bounded', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  rig.apply(put('a', 'x'.repeat(60 * 1024)));
  const read = txn([], [put('n'), get('a')]);
  const fitting = Math.floor(limits.clientResultsBytes / (60 * 1024 + 50));
  for (let sequence = 1; sequence <= fitting + 1; sequence += 1) {
    rig.apply(read, 1, caller.call(sequence));
  }
  expect(rig.machine.clients.heldBytes(caller.id)).toBeLessThanOrEqual(limits.clientResultsBytes);
  expect(rig.result(read, 1, caller.call(fitting))).toMatchObject({ kind: 'txn' });
  expect(rig.result(read, 1, caller.call(fitting + 1))).toEqual(fault('result-forgotten'));
  rig.restart();
  const next = caller.call(fitting + 2, 3);
  rig.apply(read, 1, next);
  expect(rig.result(read, 1, next)).toMatchObject({ kind: 'txn' });
});

test('there are only so many clients', () => {
  const rig = new Rig();
  for (let index = 1; index <= limits.clients; index += 1) {
    rig.machine.clients.register(BigInt(index), index, 0);
  }
  expect(rig.result({ kind: 'client-register' })).toEqual(fault('too-many-requests'));
});

test('ids are given out anew after a restore, so they depend on who proposed', () => {
  const register = (origin: bigint) => {
    const rig = new Rig();
    const at = { index: 9, term: 1, nowMs: 0, origin };
    const { result } = rig.machine.apply(at, { kind: 'client-register' }, rig.state);
    return result.kind === 'client-register' ? result.id : undefined;
  };
  expect(register(0x1234n)).not.toBe(register(0x4321n));
  expect(register(0x7fff_ffff_ffff_ffffn)).toBeGreaterThan(0n);
});

test('a client ends by an entry of the term that proposed it, unless it was active since', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  caller.put('a', 1);
  const idleSince = rig.state.appliedIndex;
  const expire = { kind: 'client-expire', id: caller.id, term: 2, idleSince } as const;
  rig.apply(expire, 3);
  expect(rig.machine.clients.has(caller.id)).toBe(true);
  caller.put('a', 2);
  rig.apply(expire, 2);
  expect(rig.machine.clients.has(caller.id)).toBe(true);
  rig.restart();
  rig.apply(expire, 2);
  expect(rig.machine.clients.has(caller.id)).toBe(true);
  rig.apply({ ...expire, idleSince: idleSince + 1 }, 2);
  expect(rig.machine.clients.has(caller.id)).toBe(true);
  rig.apply({ ...expire, idleSince: idleSince + 2 }, 2);
  expect(rig.machine.clients.has(caller.id)).toBe(false);
  expect(clientRecords(rig)).toEqual([]);
});

test('idle clients are offered once, after their time; writing starts it anew', () => {
  const ttlMs = limits.clientTtlSeconds * 1000;
  const { clients } = new Rig().machine;
  clients.register(1n, 10, 0);
  clients.register(2n, 11, 0);
  clients.record({ id: 2n, sequence: 1, floor: 1 }, 12, 5_000, Buffer.alloc(1));
  expect(clients.idle(ttlMs - 1, 9)).toEqual([]);
  expect(clients.idle(ttlMs, 9)).toEqual([{ id: 1n, idleSince: 10 }]);
  expect(clients.idle(ttlMs, 9)).toEqual([]);
  clients.reoffer(1n);
  expect(clients.idle(ttlMs, 9)).toEqual([{ id: 1n, idleSince: 10 }]);
  expect(clients.idle(ttlMs + 4_999, 9)).toEqual([]);
  expect(clients.idle(ttlMs + 5_000, 9)).toEqual([{ id: 2n, idleSince: 12 }]);
  clients.extendAll(2 * ttlMs);
  expect(clients.idle(3 * ttlMs - 1, 9)).toEqual([]);
  expect(clients.idle(3 * ttlMs, 1)).toHaveLength(1);
  expect(clients.idle(3 * ttlMs, 9)).toHaveLength(1);
});

test('numbered calls of every kind are remembered', () => {
  const rig = new Rig();
  const caller = new Caller(rig);
  const calls = [
    grant(7n),
    put('a', '1', { lease: 7n }),
    txn([], [del('a', '', true), put('b', '2'), get('\0', FROM_KEY)]),
    del('\0', FROM_KEY, true),
    { kind: 'compact', revision: 2, physical: false } as const,
    { kind: 'lease-revoke', id: 7n } as const,
    { kind: 'client-register' } as const,
  ];
  const first = calls.map((call, at) => rig.result(call, 1, caller.call(at + 1)));
  const { revision } = rig.machine;
  rig.restart();
  const second = calls.map((call, at) => rig.result(call, 1, caller.call(at + 1)));
  expect(second).toEqual(first);
  expect(rig.machine.revision).toBe(revision);
});

test('the checksum of everything covers clients', () => {
  const rig = new Rig();
  const seen = [rig.checksum()];
  const caller = new Caller(rig);
  seen.push(rig.checksum());
  rig.apply({ kind: 'lease-revoke', id: 1n }, 1, caller.call(1));
  seen.push(rig.checksum());
  expect(new Set(seen).size).toBe(3);
});
