/** Asking a member who takes part, before one takes part oneself. */
import { MembersRequest, MembersResponse } from '../wire/conclave/v1/raft.ts';
import { ClientSession } from './client-session.ts';
import type { MembersReply } from './transport.ts';

export const MEMBERS_PATH = '/conclave.v1.Peer/Members';

export function encodeMembers(reply: MembersReply): Uint8Array {
  return MembersResponse.encode({
    clusterId: reply.clusterId,
    memberId: reply.memberId,
    configurationIndex: BigInt(reply.index),
    members: reply.members.map((member) => ({
      id: member.id,
      name: member.name,
      peerUrls: [...member.peerUrls],
      clientUrls: [...member.clientUrls],
      isLearner: member.isLearner,
      incarnation: member.incarnation ?? 0n,
    })),
    removed: [...reply.removed],
  }).finish();
}

function decodeMembers(bytes: Buffer): MembersReply {
  const { clusterId, memberId, configurationIndex, members, removed } =
    MembersResponse.decode(bytes);
  return {
    clusterId,
    memberId,
    index: Number(configurationIndex),
    members: members.map(({ incarnation, ...member }) => ({
      ...member,
      incarnation: incarnation === 0n ? undefined : incarnation,
    })),
    removed,
  };
}

/**
 * The members as the one at `url` has them, which may be behind. Rejects with the system's error when
 * it cannot be reached, with a `CallError`, with a `TypeError` for a URL that is none, or with the
 * reason of `signal`.
 */
export async function fetchMembers(url: string, signal: AbortSignal): Promise<MembersReply> {
  signal.throwIfAborted();
  let session: ClientSession | undefined;
  let onAbort: (() => void) | undefined;
  try {
    return await new Promise((resolve, reject) => {
      onAbort = () => reject(signal.reason);
      signal.addEventListener('abort', onAbort);
      session = new ClientSession(url, reject);
      let reply: MembersReply | undefined;
      const call = session.call(
        MEMBERS_PATH,
        {},
        {
          accepted: () => {},
          message: (bytes) => {
            reply = decodeMembers(bytes);
          },
          end: (error) => {
            if (error === undefined && reply !== undefined) resolve(reply);
            else reject(error ?? new Error(`${url} gave no answer`));
          },
        },
      );
      call.send(MembersRequest.encode({}).finish());
      call.finish();
    });
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
    session?.close();
  }
}
