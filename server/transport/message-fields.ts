/** How `conclave.v1.Message` numbers what Raft names. */
import type { EntryKind, Message } from '../raft/message.ts';

/** The field numbers of `conclave.v1.Message`. */
export const bodies = {
  'pre-vote': 2,
  'pre-vote-response': 3,
  vote: 4,
  'vote-response': 5,
  append: 6,
  'append-accepted': 7,
  'append-rejected': 8,
  heartbeat: 9,
  'heartbeat-response': 10,
  'timeout-now': 11,
  'read-index': 12,
  'read-index-response': 13,
  snapshot: 14,
  propose: 15,
  'propose-refused': 16,
} as const satisfies Record<Message['kind'], number>;

export const entryKinds = [
  'command',
  'no-op',
  'configuration',
] as const satisfies readonly EntryKind[];
export const entryKindNumbers = {
  command: 0,
  'no-op': 1,
  configuration: 2,
} as const satisfies Record<EntryKind, number>;

export type RefusalReason = Extract<Message, { kind: 'propose-refused' }>['reason'];
export const refusalNumbers = {
  'not-leader': 1,
  transferring: 2,
  overloaded: 3,
  'change-pending': 4,
  'not-ready': 5,
} as const satisfies Record<RefusalReason, number>;
export const refusals = new Map<number, RefusalReason>(
  Object.entries(refusalNumbers).map(([reason, number]) => [number, reason as RefusalReason]),
);
