import { expect, test } from 'vitest';
import type { Command } from '../../server/command.ts';
import { runToEnd } from '../../server/mvcc/range.ts';
import { grant, put } from './requests.ts';
import { Rig } from './rig.ts';

const BIG_ID = 0xffff_ffff_ffff_fff0n;

const alarm = (
  action: 'activate' | 'deactivate',
  memberId: bigint,
  kind: 'no-space' | 'corrupt' = 'no-space',
): Command => ({ kind: 'alarm', action, memberId, alarm: kind });

const member = (memberId: bigint, name: string, urls: readonly string[] = []): Command => ({
  kind: 'member',
  memberId,
  name,
  peerUrls: urls,
  clientUrls: urls,
});

test('alarms are raised once, cleared one by one, and survive a restart', () => {
  const rig = new Rig();
  for (const command of [
    alarm('activate', BIG_ID),
    alarm('activate', 1n, 'corrupt'),
    alarm('activate', 1n),
    alarm('activate', 1n),
    alarm('deactivate', 2n),
  ]) {
    expect(rig.result(command)).toEqual({ kind: 'alarm', revision: 1 });
  }
  const raised = [
    { memberId: 1n, alarm: 'no-space' },
    { memberId: 1n, alarm: 'corrupt' },
    { memberId: BIG_ID, alarm: 'no-space' },
  ];
  expect(rig.machine.alarms).toEqual(raised);
  rig.restart();
  expect(rig.machine.alarms).toEqual(raised);
  rig.apply(alarm('deactivate', 1n));
  expect(rig.machine.alarms).toEqual(raised.slice(1));
  rig.restart();
  expect(rig.machine.alarms).toEqual(raised.slice(1));
});

test('members are set, changed, and survive a restart', () => {
  const rig = new Rig();
  rig.apply(member(BIG_ID, ''));
  rig.apply(member(3n, 'three', ['http://c:1']));
  rig.apply(member(BIG_ID, 'größte', ['http://a:1', 'http://b:2']));
  const expected = [
    {
      id: 3n,
      name: 'three',
      peerUrls: ['http://c:1'],
      clientUrls: ['http://c:1'],
      isLearner: false,
      incarnation: 0n,
    },
    {
      id: BIG_ID,
      name: 'größte',
      peerUrls: ['http://a:1', 'http://b:2'],
      clientUrls: ['http://a:1', 'http://b:2'],
      isLearner: false,
      incarnation: 0n,
    },
  ];
  expect(rig.machine.members).toEqual(expected);
  rig.restart();
  expect(rig.machine.members).toEqual(expected);
});

test('the checksum of everything covers keys, leases, alarms and members', () => {
  const rig = new Rig();
  const seen = new Set<number>();
  const commands = [put('a'), grant(1n), grant(2n, 9), alarm('activate', 1n), member(1n, 'one')];
  for (const command of commands) {
    seen.add(runToEnd(rig.machine.hash(rig.state)));
    rig.apply(command);
  }
  seen.add(runToEnd(rig.machine.hash(rig.state)));
  expect(seen.size).toBe(commands.length + 1);
  rig.restart();
  expect(seen.has(runToEnd(rig.machine.hash(rig.state)))).toBe(true);
});
