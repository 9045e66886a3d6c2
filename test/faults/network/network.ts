/** The network between members: an address for each, and links that can be cut one way at a time. */

import type { Facilities } from '../facilities.ts';
import { facilitySkip } from '../skip.ts';
import { NamespaceNetwork } from './namespaces.ts';
import { ProxiedNetwork } from './proxied.ts';

/** Where one member lives. */
export type Site = {
  /** Starts a command where the member lives. */
  readonly prefix: readonly string[];
  /** host:port on which it listens. */
  readonly client: string;
  readonly peer: string;
  /** host:port under which the other members reach it. */
  readonly advertisedPeer: string;
};

export interface Network {
  readonly kind: 'namespaces' | 'proxies';
  /** The place of a member; made when first asked for. */
  site(index: number): Promise<Site>;
  /** Tells which process lives at a site: links are found by who opens the connection. */
  occupy(index: number, pid: number): void;
  /** From now on nothing that one member sends reaches the other. Nobody is told. */
  cut(from: number, to: number): Promise<void>;
  /** Every link carries everything again. */
  heal(): Promise<void>;
  /** What was held back or dropped since the last heal: proof that a cut met traffic. */
  lost(): Promise<number>;
  close(): Promise<void>;
}

export type NetworkChoice = 'namespaces' | 'proxies' | undefined;

export async function createNetwork(
  choice: NetworkChoice,
  facilities: Facilities,
): Promise<Network> {
  if (choice === 'proxies') return new ProxiedNetwork();
  const why = facilities.namespaces;
  if (why === undefined) return await NamespaceNetwork.create();
  if (choice === 'namespaces' || process.env['CI'] !== undefined)
    throw facilitySkip('namespaces', why);
  console.log(`  network namespaces are missing (${why}): proxies on the loopback instead`);
  return new ProxiedNetwork();
}
