/** What the state keeps of members, alarms and the configuration: table `m`, see mvcc/keys.ts. */
import {
  BinaryReader,
  bytesSize,
  DecodeError,
  unsignedSize,
  writeBytes,
  writeId,
  writeUnsigned,
} from './mvcc/binary.ts';
import { factKey } from './mvcc/keys.ts';
import type { Bytes } from './mvcc/types.ts';
import type { Configuration } from './raft/configuration.ts';
import type { Alarm, AlarmKind, MemberFact } from './roster.ts';

export const MEMBER = 'member/';
export const ALARM = 'alarm/';
/** Ids that were members once. */
export const REMOVED = 'removed/';
export const CONFIGURATION_KEY = factKey('configuration');

const NOT_INTRODUCED = 0n;
const LEARNER = 1;
const INTRODUCED = 2;

const alarmKinds: readonly AlarmKind[] = ['no-space', 'corrupt'];
export const alarmRank = (kind: AlarmKind): number => alarmKinds.indexOf(kind);

function idBytes(id: bigint): Bytes {
  const result = Buffer.allocUnsafe(8);
  writeId(result, 0, id);
  return result;
}

export const memberKey = (id: bigint): Bytes => factKey(MEMBER, idBytes(id));
export const removedKey = (id: bigint): Bytes => factKey(REMOVED, idBytes(id));
export const alarmKey = ({ memberId, alarm }: Alarm): Bytes =>
  factKey(ALARM, Buffer.concat([idBytes(memberId), Buffer.of(alarmRank(alarm))]));

/** The id in a key of members or of removed ones, without the name of the fact. */
export const decodeId = (suffix: Bytes): bigint => new BinaryReader(suffix).unsignedId();

export function decodeAlarm(suffix: Bytes): Alarm {
  const reader = new BinaryReader(suffix);
  const memberId = reader.unsignedId();
  return { memberId, alarm: alarmKinds[reader.byte()] ?? 'corrupt' };
}

export function encodeMember(member: MemberFact): Bytes {
  const { name, peerUrls, clientUrls, incarnation } = member;
  const fields = [name, ...peerUrls, ...clientUrls].map((text) => Buffer.from(text, 'utf8'));
  const isIntroduced = incarnation !== NOT_INTRODUCED;
  const size =
    1 +
    unsignedSize(peerUrls.length) +
    unsignedSize(clientUrls.length) +
    fields.reduce((sum, field) => sum + bytesSize(field), 0) +
    (isIntroduced ? 8 : 0);
  const result = Buffer.allocUnsafe(size);
  result[0] = (member.isLearner ? LEARNER : 0) | (isIntroduced ? INTRODUCED : 0);
  let at = writeUnsigned(result, 1, peerUrls.length);
  at = writeUnsigned(result, at, clientUrls.length);
  for (const field of fields) at = writeBytes(result, at, field);
  if (isIntroduced) writeId(result, at, incarnation);
  return result;
}

export function decodeMember(id: bigint, value: Bytes): MemberFact {
  const reader = new BinaryReader(value);
  const flags = reader.flags(LEARNER | INTRODUCED);
  const peerCount = reader.unsigned();
  const clientCount = reader.unsigned();
  return {
    id,
    name: reader.text(),
    peerUrls: reader.texts(peerCount),
    clientUrls: reader.texts(clientCount),
    isLearner: (flags & LEARNER) !== 0,
    incarnation: (flags & INTRODUCED) === 0 ? NOT_INTRODUCED : reader.unsignedId(),
  };
}

const CONFIGURATION_FORMAT = 1;

/** A configuration, and the entry that last changed it or the address of a member. */
export type StoredConfiguration = {
  readonly configuration: Configuration;
  readonly index: number;
};

export function encodeConfiguration({ configuration, index }: StoredConfiguration): Bytes {
  const { voters, outgoing, learners, learnersNext, autoLeave } = configuration;
  const lists = [voters, outgoing, learners, learnersNext];
  const size = lists.reduce(
    (sum, ids) => sum + unsignedSize(ids.length) + 8 * ids.length,
    2 + unsignedSize(index),
  );
  const result = Buffer.allocUnsafe(size);
  result[0] = CONFIGURATION_FORMAT;
  result[1] = autoLeave ? 1 : 0;
  let at = writeUnsigned(result, 2, index);
  for (const ids of lists) {
    at = writeUnsigned(result, at, ids.length);
    for (const id of ids) at = writeId(result, at, id);
  }
  return result;
}

export function decodeConfiguration(data: Bytes): StoredConfiguration {
  const reader = new BinaryReader(data);
  const format = reader.byte();
  if (format !== CONFIGURATION_FORMAT) {
    throw new DecodeError(
      `configuration has format ${format}: this version reads ${CONFIGURATION_FORMAT}`,
    );
  }
  const autoLeave = reader.flags(1) === 1;
  const index = reader.unsigned();
  const ids = (): bigint[] => {
    const count = reader.unsigned();
    // Each takes a byte at least: a wrong count must not allocate before the data ends.
    if (count > reader.remaining) throw new DecodeError('unexpected end of data');
    return Array.from({ length: count }, () => reader.unsignedId());
  };
  const lists = { voters: ids(), outgoing: ids(), learners: ids(), learnersNext: ids() };
  return { configuration: { ...lists, autoLeave }, index };
}
