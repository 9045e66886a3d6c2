/** Generated changes of members, over few ids and addresses, so that they meet often. */
import fc from 'fast-check';
import type { ClientCall } from '../../server/clients/call.ts';
import type { Command } from '../../server/command.ts';
import type { MembershipCommand } from '../../server/membership.ts';

export const memberId = fc.constantFrom(1n, 2n, 3n, 4n, 0xffff_ffff_ffff_ffffn);
const peerUrls = fc.uniqueArray(fc.constantFrom('http://a:1', 'http://b:1', 'http://c:1'), {
  maxLength: 2,
});

export const membership: fc.Arbitrary<MembershipCommand> = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('bootstrap' as const),
      members: fc.uniqueArray(
        fc.record({ id: memberId, name: fc.constantFrom('', 'größte'), peerUrls }),
        { maxLength: 3, selector: ({ id }) => id },
      ),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('member-add' as const),
      id: memberId,
      peerUrls,
      isLearner: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('member-remove' as const), id: memberId }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('member-promote' as const), id: memberId }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('member-replace' as const),
      learner: memberId,
      old: memberId,
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'member-leave' as const }) },
);

/** Without an origin a client's id is the index of the entry that registered it: often a low one. */
const clientId = fc.oneof({ weight: 4, arbitrary: fc.bigInt(1n, 3n) }, fc.bigInt(4n, 12n));

/** What members and clients do without a change of who takes part. */
export const clusterCommand: fc.Arbitrary<Command> = fc.oneof(
  fc.record({
    kind: fc.constant('introduce' as const),
    memberId,
    name: fc.constantFrom('one', 'two'),
    clientUrls: peerUrls,
    incarnation: fc.constantFrom(1n, 2n ** 62n),
  }),
  fc.record({ kind: fc.constant('member-update' as const), memberId, peerUrls }),
  fc.constant({ kind: 'client-register' as const }),
  fc.record({
    kind: fc.constant('refuse' as const),
    fault: fc.constantFrom('no-space' as const, 'corrupt' as const),
  }),
  fc.record({ kind: fc.constant('client-forget' as const), id: clientId }),
  fc.record({
    kind: fc.constant('client-expire' as const),
    id: clientId,
    term: fc.constantFrom(1, 2),
    idleSince: fc.nat({ max: 20 }),
  }),
);

export const call: fc.Arbitrary<ClientCall> = fc.record({
  id: clientId,
  sequence: fc.integer({ min: 1, max: 6 }),
  floor: fc.integer({ min: 1, max: 4 }),
});
