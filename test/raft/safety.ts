/**
 * What Raft promises (Raft, figure 3) and what this core promises besides, checked on a cluster
 * from outside, with knowledge of all disks.
 */
import { assert } from '../../server/assert.ts';
import { isVoter } from '../../server/raft/configuration.ts';
import type { Entry, Message, NodeId, Ready } from '../../server/raft/message.ts';
import { isQuorum } from '../../server/raft/quorum.ts';
import type { Raft } from '../../server/raft/raft.ts';
import type { Member } from './cluster.ts';

type Committed = { readonly term: number; readonly data: string; readonly committedInTerm: number };

export class SafetyChecker {
  readonly #members: readonly Member[];
  readonly #leaders = new Map<number, NodeId>();
  /** By index and term: the entry's content and the term before it. */
  readonly #written = new Map<string, string>();
  readonly #committed: Committed[] = [];
  readonly #votes = new Map<string, NodeId>();
  readonly #volatile = new Map<NodeId, { term: number; commit: number }>();
  readonly #persisted = new Map<NodeId, { term: number; commit: number }>();
  /** What was committed anywhere when the read began. */
  readonly #reads = new Map<number, number>();
  /** Commands that are committed; each is proposed once. */
  readonly #proposals = new Set<string>();
  /** By sender and request. */
  readonly #forwarded = new Map<string, readonly string[]>();
  readonly #refused = new Set<string>();

  constructor(members: readonly Member[]) {
    this.#members = members;
  }

  readStarted(id: number): void {
    this.#reads.set(id, this.#committed.length);
  }

  forwarded({ id, raft }: Member, request: number, data: readonly string[]): void {
    this.#forwarded.set(`${id} ${raft?.incarnation} ${request}`, data);
  }

  /** The member's state machine was replaced, or has other members now. */
  configured({ applied }: Member): void {
    for (const entry of applied) this.#checkState(entry);
  }

  crashed(member: Member): void {
    this.#volatile.delete(member.id);
  }

  /** Called for each batch of work, before anything of it is carried out by others. */
  observe(member: Member, ready: Ready): void {
    for (const message of ready.messages) this.#checkPromise(member, message);
    for (const entry of ready.write?.entries ?? []) this.#checkLogMatching(member, entry);
    for (const entry of ready.committed) this.#checkApplied(member, entry);
    for (const { id, index } of ready.reads) {
      const atLeast = this.#reads.get(id);
      assert(atLeast !== undefined, `read ${id} is answered once`);
      assert(index >= atLeast, `read ${id} at ${index} sees what was committed before, ${atLeast}`);
      this.#reads.delete(id);
    }
    for (const id of ready.droppedReads) {
      assert(this.#reads.delete(id), `read ${id} is dropped once`);
    }
    for (const { request } of ready.refused) this.#checkRefused(member, request);
    assert(ready.forgotten === undefined, 'no honest disk is said to have forgotten anything');
    this.#checkMember(member);
  }

  check(): void {
    for (const member of this.#members) {
      const { term, commit } = member.disk.hardState;
      const before = this.#persisted.get(member.id) ?? { term: 0, commit: 0 };
      assert(term >= before.term && commit >= before.commit, 'what is on disk never falls');
      assert(commit <= member.disk.lastIndex, 'the disk holds what its commit index names');
      this.#persisted.set(member.id, { term, commit });
    }
  }

  #checkMember({ id, raft, disk, applied }: Member): void {
    if (raft === undefined) return;
    const { term, commitIndex, lastIndex, durableIndex, role } = raft;
    const before = this.#volatile.get(id) ?? { term: disk.hardState.term, commit: 0 };
    assert(term >= before.term, 'the term never falls');
    assert(commitIndex >= before.commit, 'the commit index never falls');
    assert(applied.length <= commitIndex && commitIndex <= lastIndex, 'applied <= commit <= last');
    for (let index = raft.firstIndex; index <= durableIndex; index += 1) {
      assert(disk.holds(index, raft.termAt(index) ?? 0), `durable entry ${index} is on disk`);
    }
    for (let index = before.commit + 1; index <= commitIndex; index += 1) {
      this.#checkCommitted(raft, index);
    }
    this.#volatile.set(id, { term, commit: commitIndex });
    if (role === 'leader' && this.#leaders.get(term) !== id) {
      assert(isVoter(raft.configuration, id), 'only voters lead');
      assert(!this.#leaders.has(term), `election safety: one leader in term ${term}`);
      this.#leaders.set(term, id);
      this.#checkLeaderCompleteness(raft.termAt.bind(raft), term, raft.firstIndex);
    }
  }

  /** A promise about the disk is made only when it is true, or the disk is past that term. */
  #checkPromise({ disk }: Member, message: Message): void {
    const { hardState } = disk;
    if (message.kind === 'pre-vote-response' || message.kind === 'vote-response') {
      const { commitIndex, commitTerm } = message;
      const isKnown = commitIndex === 0 || this.#committed[commitIndex - 1]?.term === commitTerm;
      assert(isKnown, `what a voter calls committed, ${commitIndex}/${commitTerm}, is`);
    }
    if (message.kind === 'vote-response' && message.granted) {
      const key = `${message.from} ${message.term}`;
      assert((this.#votes.get(key) ?? message.to) === message.to, 'one vote in a term');
      this.#votes.set(key, message.to);
      const isStored = hardState.term === message.term && hardState.votedFor === message.to;
      assert(isStored || hardState.term > message.term, 'a vote is durable before it is sent');
    } else if (message.kind === 'vote') {
      const isStored = hardState.term === message.term && hardState.votedFor === message.from;
      assert(isStored || hardState.term > message.term, 'a candidacy is durable before it is sent');
    } else if (message.kind === 'append-accepted') {
      const isStored = hardState.term === message.term && disk.lastIndex >= message.matchIndex;
      assert(isStored || hardState.term > message.term, 'a match is durable before it is sent');
    }
  }

  /** Equal index and term mean equal content and equal entry before: by induction, equal logs. */
  #checkLogMatching({ raft }: Member, { index, term, kind, data }: Entry): void {
    const before = raft?.termAt(index - 1);
    if (before === undefined) return;
    const content = `${kind} ${Buffer.from(data)} after ${before}`;
    const known = this.#written.get(`${index}/${term}`) ?? content;
    assert(known === content, `log matching at ${index}/${term}: ${known} and ${content}`);
    this.#written.set(`${index}/${term}`, content);
  }

  #checkCommitted(raft: Raft, index: number): void {
    const { configuration, term: committedInTerm } = raft;
    const term = raft.termAt(index);
    const known = this.#committed[index - 1];
    if (known !== undefined) {
      assert(term === undefined || known.term === term, `one entry is committed at ${index}`);
      return;
    }
    assert(term !== undefined && index === this.#committed.length + 1, 'commits have no gap');
    const holders = this.#members.filter(({ disk }) => disk.holds(index, term));
    assert(
      isQuorum(configuration, (voter) => holders.some(({ id }) => id === voter)),
      `committed entry ${index}/${term} is on the disks of a quorum`,
    );
    const entry = holders[0]?.disk.at(index);
    const data = Buffer.from(entry?.data ?? []).toString();
    this.#committed.push({ term, data, committedInTerm });
    if (entry?.kind !== 'command') return;
    assert(!this.#refused.has(data), `proposal ${data} was refused and is committed`);
    assert(!this.#proposals.has(data), `proposal ${data} is committed once`);
    this.#proposals.add(data);
  }

  #checkApplied(member: Member, entry: Entry): void {
    assert(member.disk.holds(entry.index, entry.term), 'what is applied is on the own disk');
    this.#checkState(entry);
  }

  #checkState(entry: Entry): void {
    const known = this.#committed[entry.index - 1];
    const data = Buffer.from(entry.data).toString();
    if (known === undefined) return;
    assert(
      known.term === entry.term && known.data === data,
      `state machine safety: one entry is applied at ${entry.index}`,
    );
  }

  #checkRefused({ id, raft }: Member, request: number): void {
    const proposals = this.#forwarded.get(`${id} ${raft?.incarnation} ${request}`);
    assert(proposals !== undefined, `request ${request} was forwarded`);
    for (const data of proposals) {
      assert(!this.#proposals.has(data), `proposal ${data} is committed and was refused`);
      this.#refused.add(data);
    }
  }

  /** A leader holds every entry that was committed in an earlier term. */
  #checkLeaderCompleteness(
    termAt: (index: number) => number | undefined,
    term: number,
    firstIndex: number,
  ): void {
    for (const [offset, committed] of this.#committed.entries()) {
      const index = offset + 1;
      if (index < firstIndex || committed.committedInTerm >= term) continue;
      assert(
        termAt(index) === committed.term,
        `leader completeness: the leader of term ${term} holds ${index}/${committed.term}`,
      );
    }
  }
}
