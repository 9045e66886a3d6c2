/**
 * What the leader knows of one peer's log, and how much it may send before hearing back.
 *
 * - `probe`: where the logs agree is a guess; one append at a time until the peer confirms a match.
 * - `replicate`: they agree up to `next - 1` unless a message got lost; appends are pipelined up to
 *   a limit of messages and bytes in flight.
 * - `snapshot`: it needs entries that were released; nothing is sent until it has a snapshot.
 *
 * Invariant P1: `match` only grows, and only by the peer's word about its durable log.
 * Invariant P2: match < next.
 */
export type Flow =
  | {
      readonly kind: 'probe';
      /** An append is on its way; the next goes out after an answer to it or to a heartbeat. */
      awaiting: boolean;
    }
  | {
      readonly kind: 'replicate';
      readonly inflight: { readonly lastIndex: number; readonly bytes: number }[];
      inflightBytes: number;
    }
  | { readonly kind: 'snapshot' };

export type Progress = {
  match: number;
  next: number;
  flow: Flow;
  /** Heard from since the last check of the quorum. */
  active: boolean;
  /** The newest read round that the peer confirmed. */
  readContext: number;
  /** The greatest commit index that the peer was sent and could use. */
  sentCommit: number;
  /** What had been sent at the latest heartbeat: if less has arrived, something may be lost. */
  sentAtHeartbeat: number;
  /** The peer may lack what was sent: an append goes out even if there is nothing new. */
  doubtful: boolean;
};

/** A peer about which a new leader knows nothing: its log is assumed to equal the leader's. */
export function unknownProgress(lastIndex: number): Progress {
  return {
    match: 0,
    next: lastIndex + 1,
    flow: { kind: 'probe', awaiting: false },
    active: false,
    readContext: 0,
    sentCommit: 0,
    sentAtHeartbeat: 0,
    doubtful: false,
  };
}

/** Back to finding out where the logs agree. */
export function probeFrom(progress: Progress, next: number): void {
  progress.next = Math.max(next, progress.match + 1);
  progress.flow = { kind: 'probe', awaiting: false };
  progress.sentCommit = Math.min(progress.sentCommit, progress.next - 1);
}

/** Nothing more goes to this peer until it answers a heartbeat. */
export function waitForHeartbeat(progress: Progress): void {
  probeFrom(progress, progress.next);
  progress.doubtful = false;
  if (progress.flow.kind === 'probe') progress.flow.awaiting = true;
}

/** Notes that an append which ends at `lastIndex` went out. */
export function sent(progress: Progress, lastIndex: number, bytes: number): void {
  progress.doubtful = false;
  if (progress.flow.kind === 'probe') progress.flow.awaiting = true;
  if (progress.flow.kind !== 'replicate' || lastIndex < progress.next) return;
  progress.next = lastIndex + 1;
  progress.flow.inflight.push({ lastIndex, bytes });
  progress.flow.inflightBytes += bytes;
}

/**
 * The peer's log equals the leader's up to `matchIndex`; the leader's begins with `firstIndex`.
 *
 * @returns whether that was news.
 */
export function accepted(progress: Progress, matchIndex: number, firstIndex: number): boolean {
  const isNews = matchIndex > progress.match;
  progress.match = Math.max(progress.match, matchIndex);
  progress.next = Math.max(progress.next, progress.match + 1);
  if (progress.flow.kind !== 'replicate') {
    // An old answer says nothing about the guess being probed, or whether a snapshot is needed.
    const canGoOn = progress.flow.kind === 'probe' || matchIndex + 1 >= firstIndex;
    if (matchIndex >= progress.match && canGoOn) {
      progress.next = progress.match + 1;
      progress.flow = { kind: 'replicate', inflight: [], inflightBytes: 0 };
    }
    return isNews;
  }
  const { inflight } = progress.flow;
  while (inflight[0] !== undefined && inflight[0].lastIndex <= matchIndex) {
    progress.flow.inflightBytes -= inflight[0].bytes;
    inflight.shift();
  }
  return isNews;
}

/**
 * The peer lacks the entry at `rejectedIndex`; `agreedIndex` is the leader's best guess of what it
 * has.
 *
 * @returns whether the answer was to something still of interest.
 */
export function rejected(progress: Progress, rejectedIndex: number, agreedIndex: number): boolean {
  if (progress.flow.kind === 'snapshot') return false;
  if (progress.flow.kind === 'replicate') {
    if (rejectedIndex <= progress.match) return false;
    probeFrom(progress, progress.match + 1);
    return true;
  }
  // A peer that lacks what it once confirmed has lost its disk. Asking again at once would go round
  // for ever; the probe is repeated after the next heartbeat instead.
  if (rejectedIndex !== progress.next - 1 || rejectedIndex <= progress.match) return false;
  probeFrom(progress, Math.min(rejectedIndex, agreedIndex + 1));
  return true;
}

/** Whether another append with entries may go out now. */
export function hasRoom(
  progress: Progress,
  limits: { readonly inflightMessages: number; readonly inflightBytes: number },
): boolean {
  if (progress.flow.kind === 'snapshot') return false;
  if (progress.flow.kind === 'probe') return !progress.flow.awaiting;
  const { inflight, inflightBytes } = progress.flow;
  return inflight.length < limits.inflightMessages && inflightBytes < limits.inflightBytes;
}
