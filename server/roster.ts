/**
 * The small replicated facts about the cluster itself: its members and the alarms raised. Kept in
 * memory and, one record each, in the state.
 */
import {
  BinaryReader,
  bytesSize,
  EMPTY,
  unsignedSize,
  writeBytes,
  writeId,
  writeUnsigned,
} from './mvcc/binary.ts';
import type { ForwardReader } from './mvcc/draft.ts';
import type { Crc32c } from './mvcc/hash.ts';
import { factBounds, factKey } from './mvcc/keys.ts';
import { slices } from './mvcc/slices.ts';
import type { Bytes } from './mvcc/types.ts';
import type { Write } from './ports.ts';

export type AlarmKind = 'no-space' | 'corrupt';
export type Alarm = { readonly memberId: bigint; readonly alarm: AlarmKind };

export type MemberFact = {
  readonly id: bigint;
  /** Empty until the member has started for the first time. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
};

const MEMBER = 'member/';
const ALARM = 'alarm/';
const alarmKinds: readonly AlarmKind[] = ['no-space', 'corrupt'];

export class Roster {
  #members: readonly MemberFact[] = [];
  #alarms: readonly Alarm[] = [];

  /** In order of id. */
  get members(): readonly MemberFact[] {
    return this.#members;
  }

  /** In order of member id, then of kind. */
  get alarms(): readonly Alarm[] {
    return this.#alarms;
  }

  load(reader: ForwardReader): void {
    this.#members = readAll(reader, MEMBER, decodeMember);
    this.#alarms = readAll(reader, ALARM, decodeAlarm);
  }

  /** Adds a member or changes what is known of one; whether it is a learner stays as it was. */
  setMember(given: Omit<MemberFact, 'isLearner'>): Write {
    const isLearner = this.#members.find(({ id }) => id === given.id)?.isLearner ?? false;
    const member: MemberFact = { ...given, isLearner };
    const others = this.#members.filter(({ id }) => id !== given.id);
    this.#members = [...others, member].sort((a, b) => compareIds(a.id, b.id));
    return { kind: 'put', key: factKey(MEMBER, idBytes(member.id)), value: encodeMember(member) };
  }

  /** Adds everything to a checksum. */
  addTo(crc: Crc32c): void {
    for (const member of this.#members) {
      crc.addId(member.id);
      crc.addField(encodeMember(member));
    }
    for (const alarm of this.#alarms) crc.addField(alarmKey(alarm));
  }

  /** Raises an alarm; one already raised stays. */
  raise(alarm: Alarm): Write {
    const others = this.#alarms.filter((other) => !isSame(other, alarm));
    this.#alarms = [...others, alarm].sort(
      (a, b) => compareIds(a.memberId, b.memberId) || kindIndex(a.alarm) - kindIndex(b.alarm),
    );
    return { kind: 'put', key: alarmKey(alarm), value: EMPTY };
  }

  /** Clears an alarm; one not raised stays cleared. */
  clear(alarm: Alarm): Write {
    this.#alarms = this.#alarms.filter((other) => !isSame(other, alarm));
    return { kind: 'remove', key: alarmKey(alarm) };
  }
}

/** What removes all members and alarms: a restored store begins a new cluster. */
export function forgetRoster(reader: ForwardReader): Write[] {
  const removals: Write[] = [];
  for (const name of [MEMBER, ALARM]) {
    const { start, end } = factBounds(name);
    for (const slice of slices(reader, start, end)) {
      for (const [key] of slice) removals.push({ kind: 'remove', key });
    }
  }
  return removals;
}

function readAll<Fact>(
  reader: ForwardReader,
  name: string,
  decode: (suffix: Bytes, value: Bytes) => Fact,
): readonly Fact[] {
  const { start, end } = factBounds(name);
  const facts: Fact[] = [];
  for (const slice of slices(reader, start, end)) {
    for (const [key, value] of slice) facts.push(decode(key.subarray(start.length), value));
  }
  return facts;
}

const isSame = (a: Alarm, b: Alarm): boolean => a.memberId === b.memberId && a.alarm === b.alarm;
const kindIndex = (kind: AlarmKind): number => alarmKinds.indexOf(kind);
const compareIds = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

function idBytes(id: bigint): Bytes {
  const result = Buffer.allocUnsafe(8);
  writeId(result, 0, id);
  return result;
}

const alarmKey = ({ memberId, alarm }: Alarm): Bytes =>
  factKey(ALARM, Buffer.concat([idBytes(memberId), Buffer.of(kindIndex(alarm))]));

function decodeAlarm(suffix: Bytes): Alarm {
  const reader = new BinaryReader(suffix);
  const memberId = reader.unsignedId();
  return { memberId, alarm: alarmKinds[reader.byte()] ?? 'corrupt' };
}

function encodeMember({ name, peerUrls, clientUrls, isLearner }: MemberFact): Bytes {
  const fields = [name, ...peerUrls, ...clientUrls].map((text) => Buffer.from(text, 'utf8'));
  const size =
    1 +
    unsignedSize(peerUrls.length) +
    unsignedSize(clientUrls.length) +
    fields.reduce((sum, field) => sum + bytesSize(field), 0);
  const result = Buffer.allocUnsafe(size);
  result[0] = isLearner ? 1 : 0;
  let at = writeUnsigned(result, 1, peerUrls.length);
  at = writeUnsigned(result, at, clientUrls.length);
  for (const field of fields) at = writeBytes(result, at, field);
  return result;
}

function decodeMember(suffix: Bytes, value: Bytes): MemberFact {
  const id = new BinaryReader(suffix).unsignedId();
  const reader = new BinaryReader(value);
  const isLearner = reader.byte() === 1;
  const peerCount = reader.unsigned();
  const clientCount = reader.unsigned();
  const text = (): string => Buffer.from(reader.bytes()).toString('utf8');
  const texts = (count: number): string[] => Array.from({ length: count }, text);
  return {
    id,
    name: text(),
    peerUrls: texts(peerCount),
    clientUrls: texts(clientCount),
    isLearner,
  };
}
