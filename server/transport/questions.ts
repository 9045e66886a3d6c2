/** Questions to the leader and their answers, as `conclave.v1.Questions` and `Replies`. */
import { unreachable } from '../assert.ts';
import { Fault, type FaultCode, faults } from '../faults.ts';
import {
  type Question as WireQuestion,
  Questions as WireQuestions,
  Replies as WireReplies,
  type Reply as WireReply,
} from '../wire/conclave/v1/raft.ts';
import { MalformedFrame } from './protobuf.ts';
import type { Question, Reply } from './transport.ts';

/** A lease that is there has more. */
const NO_SUCH_LEASE_TTL = 0;

export function encodeQuestions(questions: readonly Question[]): Uint8Array {
  return WireQuestions.encode({ questions: questions.map(wireQuestion) }).finish();
}

/** Throws `MalformedFrame`. */
export function decodeQuestions(bytes: Buffer): Question[] {
  return parse(() => WireQuestions.decode(bytes)).questions.map(questionOf);
}

/** A fault instead of a reply is the answer to its question alone. */
export function encodeReplies(replies: readonly (Reply | Fault)[]): Uint8Array {
  return WireReplies.encode({ replies: replies.map(wireReply) }).finish();
}

/** Throws `MalformedFrame`. */
export function decodeReplies(bytes: Buffer): (Reply | Fault)[] {
  return parse(() => WireReplies.decode(bytes)).replies.map(replyOf);
}

function parse<T>(decode: () => T): T {
  try {
    return decode();
  } catch (error) {
    throw new MalformedFrame(error instanceof Error ? error.message : String(error));
  }
}

function wireQuestion(question: Question): WireQuestion {
  switch (question.kind) {
    case 'renew-leases':
      return { question: { $case: 'renewLeases', value: { ids: [...question.ids] } } };
    case 'describe-lease': {
      const { id, withKeys } = question;
      return { question: { $case: 'describeLease', value: { id, withKeys } } };
    }
    case 'leases':
      return { question: { $case: 'leases', value: {} } };
    case 'propose-membership': {
      const command = Buffer.from(question.command);
      return { question: { $case: 'proposeMembership', value: { command } } };
    }
    default:
      return unreachable(question);
  }
}

function questionOf({ question }: WireQuestion): Question {
  switch (question?.$case) {
    case 'renewLeases':
      return { kind: 'renew-leases', ids: question.value.ids };
    case 'describeLease':
      return { kind: 'describe-lease', ...question.value };
    case 'leases':
      return { kind: 'leases' };
    case 'proposeMembership':
      return { kind: 'propose-membership', command: question.value.command };
    case undefined:
      throw new MalformedFrame('a question of a kind that is not known here');
    default:
      return unreachable(question);
  }
}

function wireReply(reply: Reply | Fault): WireReply {
  if (reply instanceof Fault) return { reply: { $case: 'fault', value: reply.code } };
  switch (reply.kind) {
    case 'leases-renewed': {
      const ttlSeconds = reply.ttlSeconds.map((seconds = NO_SUCH_LEASE_TTL) => BigInt(seconds));
      return { reply: { $case: 'leasesRenewed', value: { ttlSeconds } } };
    }
    case 'lease': {
      const { lease } = reply;
      const value = {
        exists: lease !== undefined,
        ttlSeconds: BigInt(lease?.ttlSeconds ?? 0),
        grantedTtlSeconds: BigInt(lease?.grantedTtlSeconds ?? 0),
        keys: lease?.keys.map((key) => Buffer.from(key)) ?? [],
      };
      return { reply: { $case: 'lease', value } };
    }
    case 'leases':
      return { reply: { $case: 'leases', value: { ids: [...reply.ids] } } };
    case 'membership-changed':
      return { reply: { $case: 'membershipChanged', value: { index: BigInt(reply.index) } } };
    default:
      return unreachable(reply);
  }
}

function replyOf({ reply }: WireReply): Reply | Fault {
  switch (reply?.$case) {
    case 'fault':
      return new Fault(faultCode(reply.value));
    case 'leasesRenewed': {
      const ttlSeconds = reply.value.ttlSeconds.map(safe);
      return {
        kind: 'leases-renewed',
        ttlSeconds: ttlSeconds.map((ttl) => (ttl === NO_SUCH_LEASE_TTL ? undefined : ttl)),
      };
    }
    case 'lease': {
      const { exists, ttlSeconds, grantedTtlSeconds, keys } = reply.value;
      return {
        kind: 'lease',
        lease: exists
          ? { ttlSeconds: safe(ttlSeconds), grantedTtlSeconds: safe(grantedTtlSeconds), keys }
          : undefined,
      };
    }
    case 'leases':
      return { kind: 'leases', ids: reply.value.ids };
    case 'membershipChanged':
      return { kind: 'membership-changed', index: safe(reply.value.index) };
    case undefined:
      throw new MalformedFrame('a reply of a kind that is not known here');
    default:
      return unreachable(reply);
  }
}

/** A fault that only a newer version knows leaves open what happened, as a timeout does. */
const faultCode = (name: string): FaultCode =>
  Object.hasOwn(faults, name) ? (name as FaultCode) : 'timeout';

function safe(value: bigint): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new MalformedFrame('a number exceeds 2^53 - 1');
  return number;
}
