/**
 * What Raft promises (Raft, figure 3), and what this core promises besides, seen from outside with
 * knowledge of every disk. Each check costs in proportion to what changed since the last.
 */
import { type Configuration, isSameConfiguration } from '../../../server/raft/configuration.ts';
import type { Entry, Message, NodeId, Ready, StorageWrite } from '../../../server/raft/message.ts';
import { hold } from '../engine/violation.ts';
import { isQuorum } from './majorities.ts';
import type { RaftMember } from './member.ts';
import { doQuorumsIntersect } from './membership.ts';
import { ProposalLedger } from './proposals.ts';

type Committed = {
  readonly term: number;
  readonly entry: Entry;
  /** The term of the leader that committed it. */
  readonly inTerm: number;
};

/** By term, at one index: the content, and the term of the entry before. */
type Written = Map<number, { readonly entry: Entry; readonly termBefore: number }>;

type Seen = { term: number; commit: number };

/** What the smallest entry counts for in a leader's limit, see `entryBytes` in the log. */
const LEAST_ENTRY_BYTES = 32;
const SLACK_ENTRIES = 16;

export class RaftChecker {
  readonly proposals = new ProposalLedger();
  readonly #members: readonly RaftMember[];
  readonly #uncommittedBytes: number;
  /** What was in force from which index on. */
  readonly #chain: { readonly index: number; readonly configuration: Configuration }[];
  readonly #leaders = new Map<number, number>();
  readonly #written: Written[] = [];
  readonly #committed: Committed[] = [];
  readonly #votes = new Map<string, NodeId>();
  readonly #volatile = new Map<number, Seen>();
  readonly #persisted = new Map<number, Seen>();
  /** What was committed anywhere when the read began. */
  readonly #reads = new Map<number, number>();

  constructor(
    members: readonly RaftMember[],
    initial: Configuration,
    uncommittedBytes = Number.POSITIVE_INFINITY,
  ) {
    this.#members = members;
    this.#uncommittedBytes = uncommittedBytes;
    this.#chain = [{ index: 0, configuration: initial }];
  }

  /** In force after everything that any member has applied. */
  get configuration(): Configuration {
    return this.#configurationAt(Number.POSITIVE_INFINITY);
  }

  /** Entries after `index` that are committed. */
  committedAfter(index: number): readonly Entry[] {
    return this.#committed.slice(index).map(({ entry }) => entry);
  }

  /** The newest index from which on a configuration is in force. */
  get configurationIndex(): number {
    return this.#chain.at(-1)?.index ?? 0;
  }

  /** Entries that are committed for good. */
  get committedIndex(): number {
    return this.#committed.length;
  }

  get openReads(): number {
    return this.#reads.size;
  }

  readStarted(id: number): void {
    this.#reads.set(id, this.#committed.length);
  }

  /** Whoever asked for it is gone. */
  readForgotten(id: number): void {
    this.#reads.delete(id);
  }

  crashed(member: RaftMember): void {
    this.#volatile.delete(member.number);
  }

  /** After every input. */
  stepped(member: RaftMember): void {
    const { raft, number } = member;
    if (raft === undefined) return;
    const { term, commitIndex } = raft;
    let before = this.#volatile.get(number);
    if (before === undefined) {
      before = { term: member.store.log.hardState.term, commit: member.store.durable.index };
      this.#volatile.set(number, before);
    }
    if (term !== before.term) {
      hold(
        term > before.term,
        5,
        () => `member ${number} fell from term ${before.term} to ${term}`,
      );
      before.term = term;
    }
    if (commitIndex !== before.commit) {
      hold(commitIndex > before.commit, 5, () => `commit of member ${number} fell`);
      hold(commitIndex <= raft.lastIndex, 7, () => `member ${number} commits what it lacks`);
      for (let index = before.commit + 1; index <= commitIndex; index += 1) {
        this.#checkCommitted(member, index, raft.termAt(index), term);
      }
      before.commit = commitIndex;
    }
    if (raft.role !== 'leader') return;
    if (this.#leaders.get(term) !== number) this.#checkLeader(member, term);
    this.#checkUncommitted(member);
  }

  /** Called for each batch of work, before anything of it is carried out. */
  observe(member: RaftMember, ready: Ready): void {
    for (const message of ready.messages) this.#checkPromise(member, message);
    for (const entry of ready.write?.entries ?? []) this.#checkLogMatching(member, entry);
    for (const entry of ready.committed) this.#checkGivenOut(member, entry);
    for (const { request } of ready.refused) {
      this.proposals.refused(`${member.raft?.incarnation}`, request);
    }
    for (const { id, index } of ready.reads) {
      const atLeast = this.#reads.get(id);
      hold(atLeast !== undefined, 9, () => `read ${id} is answered twice, or after its asker died`);
      hold(index >= atLeast, 9, () => `read ${id} at ${index} misses what ${atLeast} committed`);
      this.#reads.delete(id);
    }
    for (const id of ready.droppedReads) {
      hold(this.#reads.delete(id), 9, () => `read ${id} is given up twice`);
    }
  }

  /** The state machine of the member is about to take this entry, after which this is in force. */
  applied(member: RaftMember, entry: Entry, configuration: Configuration): void {
    const { number, appliedIndex } = member;
    hold(
      entry.index === appliedIndex + 1,
      7,
      () => `member ${number} applies ${entry.index} after ${appliedIndex}`,
    );
    this.#checkGivenOut(member, entry);
    if (entry.kind === 'configuration')
      this.#checkConfiguration(number, entry.index, configuration);
  }

  /** The state of the member was replaced. */
  installed({ number, store }: RaftMember): void {
    const { index, term, configuration } = store.durable;
    hold(
      this.#committed[index - 1]?.term === term,
      7,
      () => `member ${number} installs a state at ${index} of term ${term}, which is not committed`,
    );
    hold(
      isSameConfiguration(this.#configurationAt(index), configuration),
      8,
      () => `member ${number} installs a state at ${index} with another configuration`,
    );
  }

  /** Before so much of the write changes the disk. */
  storing({ number, store: { log } }: RaftMember, write: StorageWrite, parts: number): void {
    const { snapshot, entries } = write;
    const isRestarting =
      snapshot !== undefined && parts > 1 && !log.holds(snapshot.index, snapshot.term);
    const from = isRestarting
      ? snapshot.index + 1
      : (entries[0]?.index ?? Number.POSITIVE_INFINITY);
    const stored = entries.slice(0, Math.max(0, parts - (snapshot === undefined ? 1 : 3)));
    if (!isRestarting && stored.length === 0) return;
    const last = Math.min(log.lastIndex, this.#committed.length);
    for (let index = from; index <= last; index += 1) {
      const committed = this.#committed[index - 1];
      if (committed === undefined || log.at(index)?.term !== committed.term) continue;
      hold(
        stored.some((entry) => entry.index === index && entry.term === committed.term),
        6,
        () => `member ${number} removes the committed entry ${index} of term ${committed.term}`,
      );
    }
  }

  /** After something became durable. */
  stored(member: RaftMember): void {
    const { log } = member.store;
    const { term, commit } = log.hardState;
    const { number } = member;
    const before = this.#persisted.get(number);
    if (before !== undefined) {
      hold(term >= before.term, 5, () => `the stored term of member ${number} fell`);
      hold(commit >= before.commit, 5, () => `the stored commit of member ${number} fell`);
    }
    hold(
      commit <= log.lastIndex,
      7,
      () => `the disk of member ${number} names commit ${commit}, which it does not hold`,
    );
    this.#persisted.set(number, { term, commit });
  }

  #checkLeader(member: RaftMember, term: number): void {
    const other = this.#leaders.get(term);
    const { number, raft } = member;
    hold(other === undefined, 1, () => `members ${other} and ${number} lead term ${term}`);
    this.#leaders.set(term, number);
    // By log matching, the last entry that was committed in an earlier term stands for all before.
    let index = this.#committed.length;
    while ((this.#committed[index - 1]?.inTerm ?? 0) >= term) index -= 1;
    const committed = this.#committed[index - 1];
    if (committed === undefined || raft === undefined || index < raft.firstIndex) return;
    hold(
      raft.termAt(index) === committed.term,
      3,
      () => `leader ${number} of term ${term} lacks entry ${index} of term ${committed.term}`,
    );
  }

  /** A leader takes no more than it may hold uncommitted, and a batch; terms begin with an entry more. */
  #checkUncommitted({ raft, number }: RaftMember): void {
    if (raft === undefined) return;
    const count = raft.lastIndex - raft.commitIndex;
    const most = this.#uncommittedBytes / LEAST_ENTRY_BYTES + SLACK_ENTRIES;
    hold(count <= most, 19, () => `leader ${number} holds ${count} uncommitted entries`);
  }

  /** A promise about the disk is made only when it is true, or the disk is past that term. */
  #checkPromise(member: RaftMember, message: Message): void {
    const { number } = member;
    const { hardState } = member.store.log;
    const { term } = message;
    hold(
      message.from === member.id,
      5,
      () => `member ${number} speaks as ${message.from} in a ${message.kind}`,
    );
    if (message.kind === 'vote-response' && message.granted) {
      const key = `${number} ${term}`;
      const voted = this.#votes.get(key) ?? message.to;
      hold(voted === message.to, 5, () => `member ${number} votes twice in term ${term}`);
      this.#votes.set(key, message.to);
      const isStored = hardState.term === term && hardState.votedFor === message.to;
      hold(isStored || hardState.term > term, 5, () => `the vote of ${number} is not durable`);
    } else if (message.kind === 'vote') {
      const isStored = hardState.term === term && hardState.votedFor === message.from;
      hold(isStored || hardState.term > term, 5, () => `the candidacy of ${number} is not durable`);
    } else if (message.kind === 'append-accepted') {
      this.#checkAccepted(member, term, message.matchIndex);
    }
  }

  #checkAccepted(member: RaftMember, term: number, matchIndex: number): void {
    const { number } = member;
    const { log } = member.store;
    if (log.hardState.term > term) return;
    hold(
      log.hardState.term === term && log.lastIndex >= matchIndex,
      6,
      () => `member ${number} confirms ${matchIndex} in term ${term} before it is durable`,
    );
    const leader = this.#members[(this.#leaders.get(term) ?? 0) - 1];
    if (leader?.raft?.role !== 'leader' || leader.raft.term !== term) return;
    const theirs = leader.raft.termAt(matchIndex);
    if (theirs === undefined && matchIndex < leader.raft.firstIndex) return;
    const own = log.termAt(matchIndex);
    if (own === undefined && matchIndex < log.start.index) return;
    hold(
      theirs === own,
      6,
      () =>
        `member ${number} confirms ${matchIndex} in term ${term}, where it holds term ${own} and the leader ${theirs}`,
    );
  }

  /** Equal index and term mean equal content and equal entry before: by induction, equal logs. */
  #checkLogMatching({ raft, number }: RaftMember, entry: Entry): void {
    const termBefore = raft?.termAt(entry.index - 1);
    if (termBefore === undefined) return;
    let written = this.#written[entry.index];
    if (written === undefined) {
      written = new Map();
      this.#written[entry.index] = written;
    }
    const known = written.get(entry.term);
    if (known === undefined) {
      written.set(entry.term, { entry, termBefore });
      return;
    }
    hold(
      known.termBefore === termBefore && isSame(known.entry, entry),
      2,
      () => `member ${number} has another entry ${entry.index} of term ${entry.term}`,
    );
  }

  #checkCommitted(
    member: RaftMember,
    index: number,
    term: number | undefined,
    inTerm: number,
  ): void {
    const known = this.#committed[index - 1];
    if (known !== undefined) {
      hold(
        term === undefined || known.term === term,
        4,
        () =>
          `member ${member.number} commits entry ${index} of term ${term}, another is committed there of term ${known.term}`,
      );
      return;
    }
    hold(
      term !== undefined && index === this.#committed.length + 1,
      7,
      () => `member ${member.number} commits ${index} after ${this.#committed.length}`,
    );
    let entry: Entry | undefined;
    const held = isQuorum(member.configuration, (voter) => {
      const log = this.#members[Number(voter) - 1]?.store.log;
      if (log?.holds(index, term) !== true) return false;
      entry ??= log.at(index);
      return true;
    });
    hold(
      held && entry !== undefined,
      6,
      () => `entry ${index} of term ${term} is committed and not on the disks of a quorum`,
    );
    this.#committed.push({ term, entry, inTerm });
    this.proposals.committed(entry);
  }

  #checkConfiguration(number: number, index: number, configuration: Configuration): void {
    const before = this.#chain.at(-1);
    if (before === undefined || index > before.index) {
      this.#chain.push({ index, configuration });
      hold(
        before === undefined || doQuorumsIntersect(before.configuration, configuration),
        8,
        () => `the configuration of ${index} has a quorum without a member of the one before`,
      );
      return;
    }
    const known = this.#chain.find((each) => each.index === index);
    hold(
      known !== undefined && isSameConfiguration(known.configuration, configuration),
      8,
      () => `member ${number} has another configuration at ${index}`,
    );
  }

  #configurationAt(index: number): Configuration {
    const found = this.#chain.findLast((each) => each.index <= index);
    hold(found !== undefined, 8, () => `nothing is in force at ${index}`);
    return found.configuration;
  }

  #checkGivenOut({ number, store }: RaftMember, entry: Entry): void {
    const { index, term } = entry;
    hold(
      store.log.holds(index, term),
      6,
      () => `member ${number} applies ${index}, not on its disk`,
    );
    const known = this.#committed[index - 1];
    hold(
      known !== undefined && known.term === term && isSame(known.entry, entry),
      4,
      () => `member ${number} applies another entry ${index} (term ${term}) than was committed`,
    );
  }
}

function isSame(a: Entry, b: Entry): boolean {
  return (
    a === b || (a.kind === b.kind && (a.data === b.data || Buffer.compare(a.data, b.data) === 0))
  );
}
