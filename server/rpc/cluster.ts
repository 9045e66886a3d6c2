/** The Cluster service: who the members are. */
import { Status } from '../faults.ts';
import type { MemberFact } from '../roster.ts';
import { ClusterDefinition, type Member as WireMember } from '../wire/etcdserverpb/rpc.ts';
import { headerWithoutRevision } from './header.ts';
import { type Handler, methodsOf } from './method.ts';
import type { ServiceContext } from './services.ts';
import { Rejection } from './status.ts';

const wireMember = (member: MemberFact): WireMember => ({
  ID: member.id,
  name: member.name,
  peerURLs: [...member.peerUrls],
  clientURLs: [...member.clientUrls],
  isLearner: member.isLearner,
});

/** Membership is what the members were started with. */
const membershipIsFixed: Handler<unknown, never> = () =>
  Promise.reject(
    new Rejection(
      Status.UNIMPLEMENTED,
      'the membership of this cluster is fixed: it is given by --initial-cluster when it is created',
    ),
  );

export function clusterMethods({ member }: ServiceContext) {
  const method = methodsOf(member, ClusterDefinition);
  const { methods } = ClusterDefinition;
  return {
    memberList: method(methods.memberList, async (message, { signal }) => {
      if (message.linearizable) await member.linearize(signal);
      return { header: headerWithoutRevision(member), members: member.members.map(wireMember) };
    }),
    memberAdd: method(methods.memberAdd, membershipIsFixed),
    memberRemove: method(methods.memberRemove, membershipIsFixed),
    memberUpdate: method(methods.memberUpdate, membershipIsFixed),
    memberPromote: method(methods.memberPromote, membershipIsFixed),
  };
}
