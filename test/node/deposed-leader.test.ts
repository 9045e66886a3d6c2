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
  const asked: bigint[] = [];
  const questions = {
    ask: async ({ id }: { readonly id: bigint }) => {
      asked.push(id);
      return { kind: 'lease-renewed', ttlSeconds: 50 };
    },
  };
  let rounds = 0;
  const linearize = () => {
    rounds += 1;
    return round();
  };
  const options = { replica, questions, node: { linearize }, clock: new VirtualTime() };
  const member = new LocalMember(options as unknown as LocalMemberOptions);
  return { member, replica, renewed, asked, rounds: () => rounds };
}

test('a lease is renewed when the others confirm the leader', async () => {
  const { member, renewed } = believer(() => Promise.resolve());
  expect(await member.renewLeaseHere(7n)).toEqual({ kind: 'lease-renewed', ttlSeconds: 60 });
  expect(renewed).toEqual([7n]);
});

test('a deposed leader renews no lease', async () => {
  const { member, renewed } = believer(() => Promise.reject(new Fault('leader-changed')));
  await expect(member.renewLeaseHere(7n)).rejects.toMatchObject({ code: 'leader-changed' });
  expect(renewed).toEqual([]);
});

test('a leader that is deposed while it asks renews no lease', async () => {
  const { member, replica, renewed } = believer(async () => {
    replica.isServingLeader = false;
  });
  await expect(member.renewLeaseHere(7n)).rejects.toMatchObject({ code: 'leader-changed' });
  expect(renewed).toEqual([]);
});

test('leases that are renewed together share one confirmation, later ones get another', async () => {
  const { member, renewed, rounds } = believer(() => Promise.resolve());
  const together = Promise.all([member.renewLeases([1n, 2n]), member.renewLeaseHere(3n)]);
  expect(rounds()).toBe(1);
  expect(await together).toEqual([[60, 120], { kind: 'lease-renewed', ttlSeconds: 180 }]);
  expect(await member.renewLeases([4n])).toEqual([240]);
  expect(rounds()).toBe(2);
  expect(renewed).toEqual([1n, 2n, 3n, 4n]);
});

test('a deposed leader renews none of many, and asks the one that leads now', async () => {
  const { member, renewed, asked } = believer(() => Promise.reject(new Fault('leader-changed')));
  expect(await member.renewLeases([7n, 8n])).toEqual([50, 50]);
  expect([renewed, asked]).toEqual([[], [7n, 8n]]);
});

test('a member that does not lead asks for each of many', async () => {
  const { member, replica, renewed, asked, rounds } = believer(() => Promise.resolve());
  replica.isServingLeader = false;
  expect(await member.renewLeases([7n, 8n])).toEqual([50, 50]);
  expect([renewed, asked, rounds()]).toEqual([[], [7n, 8n], 0]);
});

test('many are refused with what stands in the way', async () => {
  const { member, asked } = believer(() => Promise.reject(new Fault('timeout')));
  await expect(member.renewLeases([7n])).rejects.toMatchObject({ code: 'timeout' });
  expect(asked).toEqual([]);
});
