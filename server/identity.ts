/** Who is who: ids that the members of a new cluster find without talking to each other. */
import { createHash } from 'node:crypto';
import type { Founder } from './membership.ts';
import type { Identity } from './storage/identity.ts';

export type InitialMember = { readonly name: string; readonly peerUrls: readonly string[] };

/**
 * Members that are started with the same token and the same list of members find the same ids. The
 * addresses in the list count: the log of each member begins with it, so lists that differ make
 * different clusters. A member on its own keeps its ids wherever it moves.
 */
export function identityOf(
  name: string,
  token: string,
  members: readonly InitialMember[] = [],
): Identity {
  const others = members.some((member) => member.name !== name);
  const list = others ? [...members].sort(byName).flatMap(textsOf) : [name];
  return {
    name,
    clusterId: id('cluster', token, ...list),
    memberId: others ? id('member', token, name, ...list) : id('member', token, name),
  };
}

/** The members of a new cluster with their ids. */
export const foundersOf = (token: string, members: readonly InitialMember[]): readonly Founder[] =>
  members.map(({ name, peerUrls }) => ({
    id: identityOf(name, token, members).memberId,
    name,
    peerUrls,
  }));

const byName = (a: InitialMember, b: InitialMember): number => (a.name < b.name ? -1 : 1);
const textsOf = ({ name, peerUrls }: InitialMember): string[] => [
  name,
  [...peerUrls].sort().join(),
];

const id = (...parts: readonly string[]): bigint =>
  createHash('sha256').update(JSON.stringify(parts)).digest().readBigUInt64BE() || 1n;
