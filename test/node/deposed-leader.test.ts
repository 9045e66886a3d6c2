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
  const options = { replica, node: { linearize: round }, clock: new VirtualTime() };
  const member = new LocalMember(options as unknown as LocalMemberOptions);
  return { member, replica, renewed };
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
