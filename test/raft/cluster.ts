/**
 * Members in memory, driven by hand: nothing moves unless a test says so. The network is a list of
 * messages under way, a disk is what its finished writes left, a crash loses the rest.
 */
import { assert } from '../../server/assert.ts';
import type { Random } from '../../server/ports.ts';
import type { RaftConfig } from '../../server/raft/config.ts';
import { emptyConfiguration } from '../../server/raft/configuration.ts';
import type {
  Entry,
  HardState,
  Message,
  NodeId,
  Ready,
  StorageWrite,
} from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';

export type MemberOptions = Pick<
  RaftConfig,
  'electionTicks' | 'heartbeatTicks' | 'preVote' | 'checkQuorum'
> & { readonly limits: NonNullable<RaftConfig['limits']> };

export class Disk {
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  entries: Entry[] = [];

  finish(write: StorageWrite): void {
    if (write.hardState !== undefined) this.hardState = write.hardState;
    const first = write.entries[0];
    if (first !== undefined) this.entries.length = Math.min(this.entries.length, first.index - 1);
    this.entries.push(...write.entries);
  }

  holds(index: number, term: number): boolean {
    return this.entries[index - 1]?.term === term;
  }
}

export class Member {
  readonly id: NodeId;
  disk = new Disk();
  readonly #config: Omit<RaftConfig, 'recovered' | 'appliedIndex'>;
  /** Undefined while it is down. */
  raft: Raft | undefined;
  /** The write that the disk has not finished. */
  write: StorageWrite | undefined;
  applied: Entry[] = [];

  constructor(config: Omit<RaftConfig, 'recovered' | 'appliedIndex'>) {
    this.id = config.id;
    this.#config = config;
    this.start(0);
  }

  /** `appliedIndex`: how much of the state machine survived. */
  start(appliedIndex: number): void {
    this.applied = this.applied.slice(0, appliedIndex);
    this.raft = new Raft({
      ...this.#config,
      recovered: {
        hardState: this.disk.hardState,
        start: { index: 0, term: 0 },
        entries: [...this.disk.entries],
      },
      appliedIndex,
    });
  }

  crash(): void {
    this.raft = undefined;
    this.write = undefined;
  }

  /** The disk was replaced by an empty one. */
  wipe(): void {
    this.disk = new Disk();
  }

  finishWrite(): void {
    const { write } = this;
    if (write === undefined) return;
    this.write = undefined;
    this.disk.finish(write);
    this.raft?.stored(write.sequence);
  }
}

export class Cluster {
  readonly members: ReadonlyMap<NodeId, Member>;
  /** Sent and not yet delivered, oldest first. */
  network: Message[] = [];
  readonly #cut = new Set<string>();
  readonly #onReady: (member: Member, ready: Ready) => void;

  constructor(
    size: number,
    options: MemberOptions,
    random: (id: NodeId) => Random,
    onReady: (member: Member, ready: Ready) => void,
  ) {
    const voters = Array.from({ length: size }, (_, index) => BigInt(index + 1));
    this.#onReady = onReady;
    this.members = new Map(
      voters.map((id) => [
        id,
        new Member({
          ...options,
          id,
          configuration: { ...emptyConfiguration, voters },
          random: random(id),
        }),
      ]),
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
      if (ready.write !== undefined) {
        assert(member.write === undefined, 'writes do not overlap');
        member.write = ready.write;
      }
      this.network.push(...ready.messages);
      for (const entry of ready.committed) {
        assert(entry.index === member.applied.length + 1, 'entries are applied in order, once');
        member.applied.push(entry);
        member.raft.applied(entry.index);
      }
      this.#onReady(member, ready);
    }
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
}
