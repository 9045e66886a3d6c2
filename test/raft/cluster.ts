/**
 * Members in memory, driven by hand: nothing moves unless a test says so. The network is a list of
 * messages under way, a disk is what its finished writes left, a crash loses the rest. The state
 * machine is the list of what was applied; changes of the members in it are written `+4 ~5 -1`.
 */
import { assert } from '../../server/assert.ts';
import type { Random } from '../../server/ports.ts';
import type { RaftConfig } from '../../server/raft/config.ts';
import {
  type Configuration,
  changed,
  emptyConfiguration,
  left,
  type MembershipChange,
} from '../../server/raft/configuration.ts';
import type {
  Entry,
  HardState,
  Message,
  NodeId,
  Ready,
  Snapshot,
  SnapshotPosition,
  StorageWrite,
} from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';

export type MemberOptions = Pick<
  RaftConfig,
  'electionTicks' | 'heartbeatTicks' | 'preVote' | 'checkQuorum'
> & { readonly limits: NonNullable<RaftConfig['limits']> };

type MemberConfig = Omit<RaftConfig, 'recovered' | 'appliedIndex'>;

export class Disk {
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  /** What an installed snapshot holds; the log begins after it. */
  covered: readonly Entry[] = [];
  entries: Entry[] = [];

  get start(): { readonly index: number; readonly term: number } {
    return { index: this.covered.length, term: this.covered.at(-1)?.term ?? 0 };
  }

  get lastIndex(): number {
    return this.covered.length + this.entries.length;
  }

  finish(write: StorageWrite, snapshot: readonly Entry[] | undefined): void {
    if (write.hardState !== undefined) this.hardState = write.hardState;
    if (snapshot !== undefined) {
      const { index, term } = snapshot.at(-1) ?? { index: 0, term: 0 };
      const tail =
        this.at(index)?.term === term ? this.entries.slice(index - this.start.index) : [];
      this.covered = snapshot;
      this.entries = tail;
    }
    const first = write.entries[0];
    if (first !== undefined) {
      this.entries.length = Math.min(this.entries.length, first.index - 1 - this.start.index);
    }
    this.entries.push(...write.entries);
  }

  at(index: number): Entry | undefined {
    return this.covered[index - 1] ?? this.entries[index - 1 - this.start.index];
  }

  holds(index: number, term: number): boolean {
    return this.at(index)?.term === term;
  }
}

export class Member {
  readonly id: NodeId;
  disk = new Disk();
  readonly #config: MemberConfig;
  /** Undefined while it is down. */
  raft: Raft | undefined;
  /** The write that the disk has not finished. */
  write: StorageWrite | undefined;
  /** Given out, not yet applied. */
  queue: Entry[] = [];
  applied: Entry[] = [];
  configuration: Configuration;
  /** Peers that it was asked to send a snapshot to. */
  readonly wanted = new Set<NodeId>();

  constructor(config: MemberConfig) {
    this.id = config.id;
    this.#config = config;
    this.configuration = config.configuration;
    this.start(0);
  }

  /** `appliedIndex`: how much of the state machine survived, besides an installed snapshot. */
  start(appliedIndex: number): void {
    const { start, hardState, entries } = this.disk;
    const survived = Math.max(appliedIndex, start.index);
    this.applied = this.applied.slice(0, survived);
    this.configuration = this.applied.reduce(configurationAfter, this.#config.configuration);
    this.raft = new Raft({
      ...this.#config,
      configuration: this.configuration,
      recovered: { hardState, start, entries: [...entries] },
      appliedIndex: survived,
    });
  }

  crash(): void {
    this.raft = undefined;
    this.write = undefined;
    this.queue = [];
    this.wanted.clear();
  }

  /** The disk was replaced by an empty one. */
  wipe(): void {
    this.disk = new Disk();
    this.applied = [];
  }

  /** Applies up to `count` of the entries that were given out. */
  apply(count: number): void {
    // The state is about to be replaced.
    if (this.write?.snapshot !== undefined) return;
    const batch = this.queue.splice(0, count);
    for (const entry of batch) {
      assert(entry.index === this.applied.length + 1, 'entries are applied in order, once');
      this.applied.push(entry);
      if (entry.kind !== 'configuration') continue;
      this.configuration = configurationAfter(this.configuration, entry);
      this.raft?.configure(entry.index, this.configuration);
    }
    const last = batch.at(-1);
    if (last !== undefined) this.raft?.applied(last.index);
  }

  /** `snapshot`: the state at the position that the write names. */
  finishWrite(snapshot: readonly Entry[] | undefined): void {
    const { write } = this;
    if (write === undefined) return;
    this.write = undefined;
    this.disk.finish(write, snapshot);
    if (snapshot !== undefined) {
      this.applied = [...snapshot];
      this.configuration = snapshot.reduce(configurationAfter, this.#config.configuration);
    }
    this.raft?.stored(write.sequence);
  }
}

export type Observer = {
  /** Before anything of it is carried out. */
  readonly onReady: (member: Member, ready: Ready) => void;
  /** The member has applied a change of the members, or installed a state. */
  readonly onConfigured: (member: Member) => void;
};

export class Cluster {
  readonly members: ReadonlyMap<NodeId, Member>;
  /** Sent and not yet delivered, oldest first. */
  network: Message[] = [];
  /** Members whose state machines apply only when told to. */
  readonly lazy = new Set<Member>();
  readonly #states = new Map<string, readonly Entry[]>();
  readonly #cut = new Set<string>();
  readonly #observer: Observer;

  /** `spares` exist and know of the founders, but are no members yet. */
  constructor(
    founders: number,
    spares: number,
    options: MemberOptions,
    random: (id: NodeId) => Random,
    observer: Observer,
  ) {
    const ids = Array.from({ length: founders + spares }, (_, index) => BigInt(index + 1));
    const configuration = { ...emptyConfiguration, voters: ids.slice(0, founders) };
    this.#observer = observer;
    this.members = new Map(
      ids.map((id) => [id, new Member({ ...options, id, configuration, random: random(id) })]),
    );
  }

  member(id: NodeId): Member {
    const member = this.members.get(id);
    assert(member !== undefined, `there is a member ${id}`);
    return member;
  }

  /** Carries out what the member wants done. */
  pump(member: Member): void {
    while (member.raft?.hasReady() === true) {
      const ready = member.raft.ready();
      this.#observer.onReady(member, ready);
      if (ready.write !== undefined) {
        assert(member.write === undefined, 'writes do not overlap');
        member.write = ready.write;
        if (ready.write.snapshot !== undefined) member.queue = [];
      }
      assert(
        ready.committed.length === 0 || member.write?.snapshot === undefined,
        'nothing is given out while a snapshot is installed',
      );
      this.network.push(...ready.messages);
      member.queue.push(...ready.committed);
      for (const { to } of ready.needsSnapshot) member.wanted.add(to);
      if (!this.lazy.has(member)) this.#apply(member, Number.POSITIVE_INFINITY);
    }
  }

  apply(member: Member, count: number): void {
    this.#apply(member, count);
    this.pump(member);
  }

  finishWrite(member: Member): void {
    const position = member.write?.snapshot;
    member.finishWrite(position && this.#stateAt(position));
    if (position !== undefined) this.#observer.onConfigured(member);
    this.pump(member);
  }

  /** Puts a snapshot of what the member has applied on its way, if it has applied anything. */
  sendSnapshot(member: Member, to: NodeId): Snapshot | undefined {
    const { id: from, raft, applied, configuration } = member;
    const last = applied.at(-1);
    if (raft === undefined || last === undefined) return undefined;
    const { index, term: indexTerm } = last;
    this.#states.set(`${index}/${indexTerm}`, [...applied]);
    const term = raft.term;
    const kind = 'snapshot';
    const message: Snapshot = { kind, from, to, term, index, indexTerm, configuration };
    this.network.push(message);
    return message;
  }

  /** Takes a message that was under way to its receiver, if link and receiver are up. */
  deliver(message: Message): void {
    if (this.isCut(message.from, message.to)) return;
    const member = this.member(message.to);
    member.raft?.step(message);
    this.pump(member);
  }

  cut(from: NodeId, to: NodeId): void {
    this.#cut.add(`${from}>${to}`);
  }

  isolate(id: NodeId): void {
    for (const other of this.members.keys()) {
      if (other === id) continue;
      this.cut(id, other);
      this.cut(other, id);
    }
  }

  heal(): void {
    this.#cut.clear();
  }

  isCut(from: NodeId, to: NodeId): boolean {
    return this.#cut.has(`${from}>${to}`);
  }

  #apply(member: Member, count: number): void {
    const before = member.configuration;
    member.apply(count);
    if (member.configuration !== before) this.#observer.onConfigured(member);
  }

  #stateAt({ index, term }: SnapshotPosition): readonly Entry[] {
    const state = this.#states.get(`${index}/${term}`);
    assert(state !== undefined, `a snapshot at ${index}/${term} was sent`);
    return state;
  }
}

/** What is in force after an entry; a change that is not allowed changes nothing. */
export function configurationAfter(current: Configuration, entry: Entry): Configuration {
  if (entry.kind !== 'configuration') return current;
  if (entry.data.length === 0) return left(current);
  const words = Buffer.from(entry.data).toString().split(' ');
  const byHand = words[0] === 'by-hand';
  const next = changed(current, words.slice(byHand ? 1 : 0).map(parseChange));
  if (next === undefined) return current;
  return { ...next, autoLeave: next.autoLeave && !byHand };
}

function parseChange(text: string): MembershipChange {
  const node = BigInt(text.slice(1));
  if (text.startsWith('+')) return { kind: 'add-voter', node };
  return text.startsWith('~') ? { kind: 'add-learner', node } : { kind: 'remove', node };
}
