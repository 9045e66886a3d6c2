/** What a member holds in memory stays within what its limits say, whatever clients and disks do. */
import { limits } from '../../../server/limits.ts';
import { hold } from '../engine/violation.ts';
import type { FullMember } from './member.ts';

/** Calls of one client at a time, by the workloads here. */
const CALLS_PER_CLIENT = 32;
/** Streams of one client: calls and a watch on each connection, and those that broke a while ago. */
const STREAMS_PER_CLIENT = 64;

export function checkBounds({ number, running, stores }: FullMember, clients: number): void {
  if (running === undefined) return;
  const { ringBytes, streams, watchers } = running.member.hub.counts;
  const bound = (what: string, value: number, most: number) =>
    hold(value <= most, 19, () => `member ${number} holds ${value} ${what}, at most ${most}`);
  // The newest revision stays, however large it is.
  bound('bytes of recent revisions', ringBytes, 2 * limits.watchRingBytes);
  bound('watch streams', streams, clients * STREAMS_PER_CLIENT);
  bound('watchers', watchers, clients * STREAMS_PER_CLIENT);
  bound('proposals', running.node.pendingProposals, clients * CALLS_PER_CLIENT);
  bound('bytes that are not flushed', stores.state.backlogBytes, 2 * limits.overlayBytes);
}
