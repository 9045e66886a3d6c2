/** A leader that others have replaced, and that has not heard of it yet. */
import { expect, test } from 'vitest';
import { Fault } from '../../server/faults.ts';
import { LocalMember, type LocalMemberOptions } from '../../server/local-member.ts';
import { VirtualTime } from '../support/virtual-time.ts';

/** A member that believes to lead; `round` is what the others say to that. */
function believer(round: () => Promise<void>) {
  const renewed: bigint[] = [];
  const replica = {
    isServingLeader: true,
    machine: { leases: { renew: (id: bigint) => renewed.push(id) * 60 } },
  };
  let rounds = 0;
  const linearize = () => {
    rounds += 1;
    return round();
  };
  const options = { replica, node: { linearize }, clock: new VirtualTime() };
  const member = new LocalMember(options as unknown as LocalMemberOptions);
  return { member, replica, renewed, rounds: () => rounds };
}

test('leases are renewed when the others confirm the leader', async () => {
  const { member, renewed } = believer(() => Promise.resolve());
  const ttlSeconds = [60, 120];
  expect(await member.renewLeasesHere([7n, 8n])).toEqual({ kind: 'leases-renewed', ttlSeconds });
  expect(renewed).toEqual([7n, 8n]);
});

test('a deposed leader renews no lease', async () => {
  const { member, renewed } = believer(() => Promise.reject(new Fault('leader-changed')));
  await expect(member.renewLeasesHere([7n])).rejects.toMatchObject({ code: 'leader-changed' });
  expect(renewed).toEqual([]);
});

test('a leader that is deposed while it asks renews no lease', async () => {
  const { member, replica, renewed } = believer(async () => {
    replica.isServingLeader = false;
  });
  await expect(member.renewLeasesHere([7n])).rejects.toMatchObject({ code: 'leader-changed' });
  expect(renewed).toEqual([]);
});

test('a member that does not lead confirms nothing', async () => {
  const { member, replica, renewed, rounds } = believer(() => Promise.resolve());
  replica.isServingLeader = false;
  await expect(member.renewLeasesHere([7n])).rejects.toMatchObject({ code: 'not-leader' });
  expect([renewed, rounds()]).toEqual([[], 0]);
});

test('questions of one turn share one confirmation, later ones get another', async () => {
  const { member, renewed, rounds } = believer(() => Promise.resolve());
  const together = Promise.all([member.renewLeasesHere([1n, 2n]), member.renewLeasesHere([3n])]);
  expect(rounds()).toBe(1);
  await together;
  await member.renewLeasesHere([4n]);
  expect(rounds()).toBe(2);
  expect(renewed).toEqual([1n, 2n, 3n, 4n]);
});
