/** Every maximum of the server in one place. Sizes are bytes unless the name says otherwise. */
import { assert } from './assert.ts';

const KiB = 1024;
const MiB = 1024 * KiB;

export const limits = {
  /** Largest encoded write; larger ones get etcd's `request is too large`. Flag: --max-request-bytes. */
  requestBytes: 1.5 * MiB,
  /** What the transport accepts above `requestBytes`, so that the store and not gRPC answers. */
  requestOverheadBytes: 512 * KiB,
  /** Operations in a transaction, per branch. Flag: --max-txn-ops. */
  txnOps: 128,
  /** Longest lease in seconds. */
  leaseTtlSeconds: 9_000_000_000,
  /** Leases that one call renews. */
  leasesPerRenewal: 1_024,
  /** Committed entries that may wait to be applied before writes are refused. */
  applyLagEntries: 5_000,
  /** Log entries kept behind the newest applied one so that a slow member can catch up. */
  catchUpEntries: 5_000,
  /** The most that those entries may be together. */
  catchUpBytes: 64 * MiB,
  /** Backend size from which writes raise the NOSPACE alarm. Flag: --quota-backend-bytes. */
  quotaBytes: 2 * 1024 * MiB,
  /** Recent watch events kept in memory for live watchers. */
  watchRingBytes: 4 * MiB,
  /** Undelivered events of one watch stream before its watchers read history instead. */
  watchStreamBytes: 4 * MiB,
  /** Revisions in one catch-up batch of a watcher. */
  watchCatchUpRevisions: 1_000,
  /** Watchers on one stream. */
  watchersPerStream: 100_000,
  /** Keys examined before a long read lets other work run. */
  readSliceKeys: 512,
  /** Keys counted before a long read lets other work run. */
  countSliceKeys: 65_536,
  /** Recent writes held in memory before they reach LMDB; more makes new writes wait. */
  overlayBytes: 4 * MiB,
  /** One WAL file. */
  walSegmentBytes: 16 * MiB,
  /** Entries in one WAL write. */
  walBatchBytes: 8 * MiB,
  /** Clients whose calls count once. */
  clients: 100_000,
  /** How long a client is known after its last write. */
  clientTtlSeconds: 900,
  /** Sequence numbers of one client, from the first one that it still needs. */
  clientWindow: 8_192,
  /** Longest result kept for a repetition; of a longer one only that the call took effect. */
  clientResultBytes: 64 * KiB,
  /** Results kept for one client together. */
  clientResultsBytes: 4 * MiB,
  /** Members that follow without a vote, at a time. */
  learners: 1,
} as const;

assert(limits.walBatchBytes * 2 <= limits.walSegmentBytes, 'a segment holds at least two batches');
assert(limits.requestBytes * 2 <= limits.walBatchBytes, 'a batch holds at least two requests');
