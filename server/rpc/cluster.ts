/**
 * The Cluster service, and conclave's own addition to it: who the members are, and changes to that.
 *
 * Whether a change is wise now is the leader's to judge (`reconfiguration.ts`), whether it is possible
 * the state machine's. Here only what is wrong with the request itself is found.
 */

import { Fault, faults, Status } from '../faults.ts';
import type { MembershipCommand } from '../membership.ts';
import type { MemberFact } from '../roster.ts';
import { MembershipDefinition } from '../wire/conclave/v1/membership.ts';
import { ClusterDefinition, type Member as WireMember } from '../wire/etcdserverpb/rpc.ts';
import { headerWithoutRevision } from './header.ts';
import { methodsOf } from './method.ts';
import type { ServiceContext } from './services.ts';
import { Rejection } from './status.ts';

const wireMember = (member: MemberFact): WireMember => ({
  ID: member.id,
  name: member.name,
  peerURLs: [...member.peerUrls],
  clientURLs: [...member.clientUrls],
  isLearner: member.isLearner,
});

export function clusterMethods({ member, random }: ServiceContext) {
  const method = methodsOf(member, ClusterDefinition);
  const { methods } = ClusterDefinition;

  const change = async (command: MembershipCommand, signal: AbortSignal) => {
    const members = await member.changeMembership(command, signal);
    return { header: headerWithoutRevision(member), members: members.map(wireMember) };
  };

  const memberList = method(
    methods.memberList,
    async (message, { signal }) => {
      if (message.linearizable) await member.linearize(signal);
      return { header: headerWithoutRevision(member), members: member.members.map(wireMember) };
    },
    { onLearner: (message) => !message.linearizable },
  );

  const memberAdd = method(methods.memberAdd, async (message, { signal }) => {
    const peerUrls = checkedPeerUrls(message.peerURLs);
    const { isLearner } = message;
    // Chosen before it is proposed: every member has to add the same id.
    const id = random.id();
    const response = await change({ kind: 'member-add', id, peerUrls, isLearner }, signal);
    return { ...response, member: response.members.find(({ ID }) => ID === id) };
  });

  const memberRemove = method(methods.memberRemove, ({ ID: id }, { signal }) =>
    change({ kind: 'member-remove', id }, signal),
  );

  const memberUpdate = method(methods.memberUpdate, async ({ ID: id, peerURLs }) => {
    await member.propose({
      kind: 'member-update',
      memberId: id,
      peerUrls: checkedPeerUrls(peerURLs),
    });
    return { header: headerWithoutRevision(member), members: member.members.map(wireMember) };
  });

  const memberPromote = method(methods.memberPromote, ({ ID: id }, { signal }) =>
    change({ kind: 'member-promote', id }, signal),
  );

  const replace = methodsOf(member, MembershipDefinition)(
    MembershipDefinition.methods.replace,
    ({ learnerId: learner, oldId: old }, { signal }) =>
      change({ kind: 'member-replace', learner, old }, signal),
  );

  return { memberList, memberAdd, memberRemove, memberUpdate, memberPromote, replace };
}

/** Sorted, as etcd keeps them. */
function checkedPeerUrls(urls: readonly string[]): readonly string[] {
  if (urls.length === 0 || !urls.every(isPeerUrl)) throw new Fault('member-bad-urls');
  const foreign = urls.find((url) => !url.startsWith('http:'));
  if (foreign !== undefined) {
    // etcd takes them; nobody here would ever reach the member.
    throw new Rejection(
      Status.INVALID_ARGUMENT,
      `${faults['member-bad-urls'].message}: members speak http with each other, without TLS, so '${foreign}' must be http://host:port`,
    );
  }
  return [...new Set(urls)].sort();
}

/** etcd's rule: a scheme it knows, a host with a port, no path. */
function isPeerUrl(text: string): boolean {
  if (text !== text.trim() || !URL.canParse(text)) return false;
  const { protocol } = new URL(text);
  if (protocol === 'unix:' || protocol === 'unixs:') return true;
  const isHttp = protocol === 'http:' || protocol === 'https:';
  return isHttp && /^https?:\/\/(\[[^\]]+\]|[^/?#@:]+):\d+$/.test(text);
}
