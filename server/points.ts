/**
 * Named moments in the life of a member, at which a simulator or a test may make something fail.
 *
 * Most are seen from outside, in what a member sends, writes and applies. Where that is not possible
 * the code itself says `reached?.('name')`, which costs nothing when nobody listens.
 */
export type PointName =
  // Elections.
  | 'pre-vote-granted'
  | 'became-candidate'
  | 'vote-requested'
  | 'vote-granted'
  | 'became-leader'
  | 'stepped-down'
  | 'transfer-sent'
  // Replication.
  | 'before-log-write'
  | 'during-log-write'
  | 'after-log-write'
  | 'tail-replaced'
  | 'before-leader-send'
  | 'after-leader-send'
  | 'before-follower-send'
  | 'after-follower-send'
  | 'append-rejected'
  | 'first-append-ack'
  | 'commit-advanced'
  | 'before-apply'
  | 'after-apply'
  | 'log-released'
  // Reads.
  | 'read-round-started'
  | 'read-confirmed'
  | 'read-dropped'
  // Membership.
  | 'configuration-proposed'
  | 'configuration-written'
  | 'configuration-committed'
  | 'configuration-applied'
  | 'joint-entered'
  | 'joint-left'
  | 'learner-added'
  | 'learner-promoted'
  | 'member-removed'
  // Snapshots.
  | 'snapshot-needed'
  | 'snapshot-opened'
  | 'snapshot-sent'
  | 'snapshot-received'
  | 'before-snapshot-install'
  | 'after-snapshot-install'
  // Forwarding.
  | 'proposal-forwarded'
  | 'proposal-refused'
  // Files of the log.
  | 'file-write'
  | 'file-flush'
  | 'file-sync'
  | 'file-rename'
  | 'file-remove'
  | 'directory-sync'
  // The state.
  | 'state-flushed'
  | 'txn-applied'
  | 'compaction-scheduled'
  // Watches.
  | 'watch-sent'
  | 'watch-behind'
  // Leases.
  | 'lease-renewed'
  | 'lease-expiry-proposed'
  | 'leases-extended'
  // Clients.
  | 'request-answered'
  | 'duplicate-answered';
