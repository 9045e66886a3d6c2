/**
 * The small replicated facts about the cluster itself: who is a member, who votes, which ids are
 * never to be used again, and the alarms raised. Kept in memory and, one record each, in the state.
 *
 * Membership lives here and nowhere else: what Raft counts with is a copy, handed to it after every
 * entry that may have changed it.
 */
import type { FaultCode } from './faults.ts';
import { limits } from './limits.ts';
import type { Founder, MembershipCommand } from './membership.ts';
import { EMPTY } from './mvcc/binary.ts';
import type { ForwardReader } from './mvcc/draft.ts';
import type { Crc32c } from './mvcc/hash.ts';
import { factBounds } from './mvcc/keys.ts';
import { slices } from './mvcc/slices.ts';
import type { Bytes } from './mvcc/types.ts';
import type { Write } from './ports.ts';
import {
  type Configuration,
  changed,
  emptyConfiguration,
  isJoint,
  isVoter,
  left,
  type MembershipChange,
  membersOf,
} from './raft/configuration.ts';
import {
  ALARM,
  alarmKey,
  alarmRank,
  CONFIGURATION_KEY,
  decodeAlarm,
  decodeConfiguration,
  decodeId,
  decodeMember,
  encodeConfiguration,
  encodeMember,
  MEMBER,
  memberKey,
  REMOVED,
  removedKey,
  type StoredConfiguration,
} from './roster-records.ts';

export type AlarmKind = 'no-space' | 'corrupt';
export type Alarm = { readonly memberId: bigint; readonly alarm: AlarmKind };

export type MemberFact = {
  readonly id: bigint;
  /** Empty until the member has started for the first time. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
  /** Of its data directory; 0n until the member has started for the first time. */
  readonly incarnation: bigint;
};

export class Roster {
  #members: readonly MemberFact[] = [];
  #removed: readonly bigint[] = [];
  /** Undefined in what versions wrote that knew of one member only. */
  #stored: StoredConfiguration | undefined;
  #alarms: readonly Alarm[] = [];

  /** In order of id. While a joint configuration lasts, those that leave with it are among them. */
  get members(): readonly MemberFact[] {
    return this.#members;
  }

  /** Ids that are never used again, in order. */
  get removed(): readonly bigint[] {
    return this.#removed;
  }

  get configuration(): Configuration {
    return this.#stored?.configuration ?? simple(this.#members);
  }

  /** The entry that last changed the configuration, or the address of a member; 0 when none did. */
  get configurationIndex(): number {
    return this.#stored?.index ?? 0;
  }

  /** In order of member id, then of kind. */
  get alarms(): readonly Alarm[] {
    return this.#alarms;
  }

  load(reader: ForwardReader): void {
    this.#members = readAll(reader, MEMBER, (suffix, value) =>
      decodeMember(decodeId(suffix), value),
    );
    this.#removed = readAll(reader, REMOVED, decodeId);
    this.#alarms = readAll(reader, ALARM, decodeAlarm);
    const stored = reader.get(CONFIGURATION_KEY);
    this.#stored = stored && decodeConfiguration(stored);
  }

  /** Carries out the change of members of an entry, or says why it cannot be. */
  change(command: MembershipCommand, index: number): Write[] | FaultCode {
    switch (command.kind) {
      case 'bootstrap':
        return this.bootstrap(command.members, index);
      case 'member-add':
        return this.#add(command, index);
      case 'member-remove': {
        if (this.#find(command.id) === undefined) return 'member-not-found';
        return this.#reconfigure([{ kind: 'remove', node: command.id }], index);
      }
      case 'member-promote':
        return this.#promote(command.id, undefined, index);
      case 'member-replace': {
        if (!isVoter(this.configuration, command.old)) return 'member-not-found';
        return this.#promote(command.learner, command.old, index);
      }
      case 'member-leave': {
        const current = this.configuration;
        return isJoint(current) ? this.#adopt(left(current), index) : [];
      }
    }
  }

  /**
   * The first members of a cluster; without effect where there are members. A restored state has them
   * before its first entry, at index 0.
   */
  bootstrap(founders: readonly Founder[], index: number): Write[] {
    if (founders.length === 0 || this.#members.length > 0) return [];
    const writes = founders.map(({ id, name, peerUrls }) =>
      this.#set({ id, name, peerUrls, clientUrls: [], isLearner: false, incarnation: 0n }),
    );
    return [...writes, ...this.#adopt(simple(this.#members), index)];
  }

  /** A member's addresses for other members. */
  update(id: bigint, peerUrls: readonly string[], index: number): Write[] | FaultCode {
    const member = this.#find(id);
    if (member === undefined) return 'member-not-found';
    const fault = this.#urlFault(peerUrls, id);
    if (fault !== undefined) return fault;
    return [this.#set({ ...member, peerUrls }), ...this.#adopt(this.configuration, index)];
  }

  /** What a member says of itself when it starts. */
  introduce(
    id: bigint,
    given: Pick<MemberFact, 'name' | 'clientUrls' | 'incarnation'>,
  ): Write[] | FaultCode {
    const member = this.#find(id);
    return member === undefined ? 'member-not-found' : [this.#set({ ...member, ...given })];
  }

  /** As `introduce`, in the logs of versions that knew of one member only: it founds the roster. */
  introduceOnly(
    given: Pick<MemberFact, 'id' | 'name' | 'peerUrls' | 'clientUrls'>,
  ): Write[] | FaultCode {
    const member = this.#find(given.id);
    if (member === undefined && this.#stored !== undefined) return 'member-not-found';
    return [this.#set({ isLearner: false, incarnation: 0n, ...member, ...given })];
  }

  /** Adds everything to a checksum. */
  addTo(crc: Crc32c): void {
    for (const member of this.#members) {
      crc.addId(member.id);
      crc.addField(encodeMember(member));
    }
    for (const id of this.#removed) crc.addField(removedKey(id));
    if (this.#stored !== undefined) crc.addField(encodeConfiguration(this.#stored));
    for (const alarm of this.#alarms) crc.addField(alarmKey(alarm));
  }

  /** Raises an alarm; one already raised stays. */
  raise(alarm: Alarm): Write {
    const others = this.#alarms.filter((other) => !isSame(other, alarm));
    this.#alarms = [...others, alarm].sort(
      (a, b) => compareIds(a.memberId, b.memberId) || alarmRank(a.alarm) - alarmRank(b.alarm),
    );
    return { kind: 'put', key: alarmKey(alarm), value: EMPTY };
  }

  /** Clears an alarm; one not raised stays cleared. */
  clear(alarm: Alarm): Write {
    this.#alarms = this.#alarms.filter((other) => !isSame(other, alarm));
    return { kind: 'remove', key: alarmKey(alarm) };
  }

  #find(id: bigint): MemberFact | undefined {
    return this.#members.find((member) => member.id === id);
  }

  #add(
    { id, peerUrls, isLearner }: Extract<MembershipCommand, { readonly kind: 'member-add' }>,
    index: number,
  ): Write[] | FaultCode {
    if (id <= 0n || this.#removed.includes(id)) return 'member-not-found';
    if (this.#find(id) !== undefined) return 'member-exist';
    const urlFault = this.#urlFault(peerUrls, id);
    if (urlFault !== undefined) return urlFault;
    const learners = this.#members.filter((member) => member.isLearner).length;
    if (isLearner && learners >= limits.learners) return 'too-many-learners';
    const kind = isLearner ? 'add-learner' : 'add-voter';
    const writes = this.#reconfigure([{ kind, node: id }], index);
    if (typeof writes === 'string') return writes;
    const member = { id, name: '', peerUrls, clientUrls: [], isLearner, incarnation: 0n };
    return [this.#set(member), ...writes];
  }

  /** Members are told apart by their addresses until they have started. */
  #urlFault(peerUrls: readonly string[], owner: bigint): FaultCode | undefined {
    if (peerUrls.length === 0 || peerUrls.includes('')) return 'member-bad-urls';
    const isTaken = this.#members.some(
      (other) => other.id !== owner && other.peerUrls.some((url) => peerUrls.includes(url)),
    );
    return isTaken ? 'peer-url-exist' : undefined;
  }

  /** Makes a learner a voter, in the place of another member if one is given. */
  #promote(id: bigint, replaced: bigint | undefined, index: number): Write[] | FaultCode {
    const member = this.#find(id);
    if (member === undefined) return 'member-not-found';
    if (!member.isLearner) return 'member-not-learner';
    const changes: MembershipChange[] = [{ kind: 'add-voter', node: id }];
    if (replaced !== undefined) changes.push({ kind: 'remove', node: replaced });
    const writes = this.#reconfigure(changes, index);
    if (typeof writes === 'string') return writes;
    return [this.#set({ ...member, isLearner: false }), ...writes];
  }

  #reconfigure(changes: readonly MembershipChange[], index: number): Write[] | FaultCode {
    const current = this.configuration;
    if (isJoint(current)) return 'change-pending';
    const next = changed(current, changes);
    // What else could be wrong with the change was ruled out: it would leave no voter.
    return next === undefined ? 'member-not-enough-started' : this.#adopt(next, index);
  }

  /** Members that the new configuration does not know any more are gone for ever. */
  #adopt(next: Configuration, index: number): Write[] {
    this.#stored = { configuration: next, index };
    const kept = new Set(membersOf(next));
    const gone = this.#members.filter(({ id }) => !kept.has(id)).map(({ id }) => id);
    const writes: Write[] = gone.flatMap((id) => [
      { kind: 'remove', key: memberKey(id) },
      { kind: 'put', key: removedKey(id), value: EMPTY },
    ]);
    if (gone.length > 0) {
      this.#members = this.#members.filter(({ id }) => kept.has(id));
      this.#removed = [...this.#removed, ...gone].sort(compareIds);
    }
    writes.push({ kind: 'put', key: CONFIGURATION_KEY, value: encodeConfiguration(this.#stored) });
    return writes;
  }

  #set(member: MemberFact): Write {
    const others = this.#members.filter(({ id }) => id !== member.id);
    this.#members = [...others, member].sort((a, b) => compareIds(a.id, b.id));
    return { kind: 'put', key: memberKey(member.id), value: encodeMember(member) };
  }
}

/** What removes all members and alarms: a restored store begins a new cluster. */
export function forgetRoster(reader: ForwardReader): Write[] {
  const removals: Write[] = [{ kind: 'remove', key: CONFIGURATION_KEY }];
  for (const name of [MEMBER, REMOVED, ALARM]) {
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

/** Every member votes that is no learner. */
const simple = (members: readonly MemberFact[]): Configuration => ({
  ...emptyConfiguration,
  voters: members.filter(({ isLearner }) => !isLearner).map(({ id }) => id),
  learners: members.filter(({ isLearner }) => isLearner).map(({ id }) => id),
});

const isSame = (a: Alarm, b: Alarm): boolean => a.memberId === b.memberId && a.alarm === b.alarm;
const compareIds = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
