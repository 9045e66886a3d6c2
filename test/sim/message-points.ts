/** The points at which a member is that sends a message. */
import type { PointName } from '../../server/points.ts';
import type { Message } from '../../server/raft/message.ts';

export function pointOfMessage(message: Message): PointName | undefined {
  switch (message.kind) {
    case 'pre-vote-response':
      return message.granted ? 'pre-vote-granted' : undefined;
    case 'vote':
      return 'vote-requested';
    case 'vote-response':
      return message.granted ? 'vote-granted' : undefined;
    case 'append-rejected':
      return 'append-rejected';
    case 'timeout-now':
      return 'transfer-sent';
    case 'read-index':
      return 'read-round-started';
    case 'propose':
      return 'proposal-forwarded';
    case 'propose-refused':
      return 'proposal-refused';
    default:
      return undefined;
  }
}
