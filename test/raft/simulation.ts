/**
 * A cluster under random faults: messages lost, doubled and reordered, members cut off, crashes that
 * lose unfinished writes and part of the state machine, slow disks, slow state machines, hand-overs,
 * released logs and the snapshots they make necessary, changes of the members.
 */
import { assert } from '../../server/assert.ts';
import type { Random } from '../../server/ports.ts';
import { isJoint, isVoter, membersOf } from '../../server/raft/configuration.ts';
import type { Message, NodeId, Proposal, Ready } from '../../server/raft/message.ts';
import { Cluster, type Member } from './cluster.ts';
import { SafetyChecker } from './safety.ts';

/** Mulberry32: small, fast, and the same everywhere. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return {
    below: (bound) => next() % bound,
    id: () => (BigInt(next()) << 31n) | BigInt(next() >>> 1),
  };
}

/** Members to be: they know of the founders and are not asked. */
const SPARES = 2;

/** Rare enough to get lost when something about the schedules changes. */
export const situations = ['snapshot', 'refusal', 'joint', 'learner', 'removed leader'] as const;

type Situation = (typeof situations)[number];

type Fault =
  | 'loss'
  | 'duplicate'
  | 'replay'
  | 'partition'
  | 'crash'
  | 'slow-disk'
  | 'slow-apply'
  | 'hand-over'
  | 'release'
  | 'change';

export class Simulation {
  step = 0;
  /** Changes with everything that is sent, written or applied. */
  fingerprint = 0;
  /** What came up at least once. */
  readonly reached = new Set<Situation>();
  readonly #random: Random;
  readonly #cluster: Cluster;
  readonly #members: readonly Member[];
  readonly #checker: SafetyChecker;
  /** Each schedule has its own selection, so that no fault always hides another. */
  readonly #faults: ReadonlySet<Fault>;
  /** Messages of any age, lost ones too, that may turn up again. */
  readonly #past: Message[] = [];
  /** Snapshots that were sent; the sender does not know yet how that ended. */
  readonly #snapshots: { readonly from: Member; readonly to: NodeId; readonly index: number }[] =
    [];
  #proposals = 0;
  #reads = 0;

  constructor(size: number, seed: number) {
    const random = seededRandom(seed * 7919 + size);
    this.#random = random;
    const all: Fault[] = [
      'loss',
      'duplicate',
      'replay',
      'partition',
      'crash',
      'slow-disk',
      'slow-apply',
      'hand-over',
      'release',
      'change',
    ];
    this.#faults = new Set(all.filter(() => random.below(3) > 0));
    this.#cluster = new Cluster(
      size,
      SPARES,
      {
        electionTicks: 4 + random.below(4),
        heartbeatTicks: 1 + random.below(2),
        preVote: random.below(2) === 0,
        checkQuorum: random.below(2) === 0,
        limits: {
          appendBytes: random.below(2) === 0 ? 1 : 200,
          inflightMessages: 1 + random.below(4),
          uncommittedBytes: 2_000,
          committedBytes: 1 + random.below(200),
        },
      },
      () => random,
      {
        onReady: (member, ready) => this.#observe(member, ready),
        onConfigured: (member) => {
          this.#checker.configured(member);
          this.#noteMembers(member);
        },
      },
    );
    this.#members = [...this.#cluster.members.values()];
    if (this.#faults.has('slow-apply'))
      for (const one of this.#members) this.#cluster.lazy.add(one);
    this.#checker = new SafetyChecker(this.#members);
  }

  run(steps: number): void {
    for (let count = 0; count < steps; count += 1) {
      this.step += 1;
      this.#act();
      this.#checker.check();
    }
  }

  /**
   * Ends the faults: a leader must emerge, leave a joint configuration, and commit something new on
   * every member. Whoever is none, as the leader sees it, is switched off, as its transport would do.
   */
  recover(): void {
    this.#cluster.heal();
    this.#cluster.lazy.clear();
    for (const member of this.#members) {
      if (member.raft === undefined) member.start(0);
      this.#cluster.apply(member, Number.POSITIVE_INFINITY);
    }
    let proposed = false;
    for (let tick = 0; tick < 400; tick += 1) {
      for (const member of this.#members) {
        member.raft?.tick();
        this.#cluster.pump(member);
      }
      this.#settle();
      this.#checker.check();
      const leader = this.#leader;
      if (proposed && leader !== undefined && this.#isDone(leader)) return;
      if (tick < 100 || leader === undefined) continue;
      const isMember = membersOf(leader.configuration);
      for (const one of this.#members) if (!isMember.includes(one.id)) one.crash();
      if (!leader.configuration.autoLeave) leader.raft?.propose([configurationEntry('')]);
      proposed = this.#propose(leader);
    }
    throw new Error('the cluster did not recover within 400 ticks');
  }

  get #leader(): Member | undefined {
    return this.#members.find(({ raft }) => raft?.role === 'leader');
  }

  #isDone({ configuration, raft }: Member): boolean {
    const ids = membersOf(configuration);
    return (
      !isJoint(configuration) &&
      ids.every((id) => this.#cluster.member(id).applied.length === raft?.lastIndex)
    );
  }

  #act(): void {
    const random = this.#random;
    const member = this.#pick(this.#members);
    const dice = random.below(1_000);
    if (dice < 20) this.#replay();
    else if (dice < 600) this.#deliver();
    else if (dice < 780) this.#finishWrite(member);
    else if (dice < 860) member.raft?.tick();
    else if (dice < 900) this.#propose(member);
    else if (dice < 920) this.#cluster.apply(member, 1 + random.below(4));
    else if (dice < 930) this.#change(this.#leader ?? member);
    else if (dice < 935) this.#carrySnapshot(member);
    else if (dice < 950) this.#read(member);
    else if (dice < 957) member.raft?.campaign();
    else if (dice < 961) member.raft?.unreachable(this.#pick(this.#members).id);
    else if (dice < 975) this.#changeNetwork(member);
    else if (dice < 990) this.#crashOrRestart(member);
    else if (dice < 993 && this.#faults.has('hand-over')) {
      member.raft?.transferLeadership(this.#pick(this.#members).id);
    } else if (dice < 994) {
      member.raft?.stepDown();
    } else if (this.#faults.has('release')) {
      member.raft?.release(random.below(member.applied.length + 1));
    }
    this.#cluster.pump(member);
  }

  #deliver(): void {
    const { network } = this.#cluster;
    if (network.length === 0) return;
    // Old messages linger: mostly the oldest is taken, sometimes any.
    const at = this.#random.below(4) === 0 ? this.#random.below(network.length) : 0;
    const message = network[at];
    assert(message !== undefined, 'the message is there');
    const isDoubled = this.#faults.has('duplicate') && this.#random.below(10) === 0;
    if (!isDoubled) network.splice(at, 1);
    if (this.#faults.has('loss') && this.#random.below(10) === 0) return;
    this.#cluster.deliver(message);
  }

  #replay(): void {
    if (!this.#faults.has('replay') || this.#past.length === 0) return;
    this.#cluster.deliver(this.#pick(this.#past));
  }

  #finishWrite(member: Member): void {
    if (this.#faults.has('slow-disk') && this.#random.below(4) > 0) return;
    this.#cluster.finishWrite(member);
  }

  #propose(member: Member): boolean {
    const data = Array.from({ length: 1 + this.#random.below(3) }, () => {
      this.#proposals += 1;
      return `${this.#proposals}`;
    });
    const outcome = member.raft?.propose(
      data.map((text) => ({ kind: 'command', data: Buffer.from(text) })),
    );
    if (outcome?.accepted === true && outcome.kind === 'forwarded') {
      this.#checker.forwarded(member, outcome.request, data);
    }
    this.#cluster.pump(member);
    return outcome?.accepted === true;
  }

  #change(member: Member): void {
    if (!this.#faults.has('change')) return;
    const changes = Array.from({ length: this.#random.below(4) }, () => {
      return `${this.#pick(['+', '+', '~', '-'])}${this.#pick(this.#members).id}`;
    });
    if (changes.length > 1 && this.#random.below(4) === 0) changes.unshift('by-hand');
    member.raft?.propose([configurationEntry(changes.join(' '))]);
    this.#cluster.pump(member);
  }

  /** Sends one that is wanted, or says of one how it ended: true or not, as that may get lost too. */
  #carrySnapshot(member: Member): void {
    for (const to of member.wanted) {
      member.wanted.delete(to);
      const sent = this.#cluster.sendSnapshot(member, to);
      if (sent !== undefined) this.#snapshots.push({ from: member, to, index: sent.index });
    }
    const [done] = this.#snapshots.splice(this.#random.below(this.#snapshots.length + 1), 1);
    if (done === undefined) return;
    const { from, to, index } = done;
    const isSent = this.#random.below(3) > 0;
    from.raft?.snapshotReported(to, isSent ? { sent: true, index } : { sent: false });
    this.#cluster.pump(from);
  }

  #read(member: Member): void {
    this.#reads += 1;
    if (member.raft?.read(this.#reads) === true) this.#checker.readStarted(this.#reads);
  }

  #changeNetwork(member: Member): void {
    if (!this.#faults.has('partition')) return;
    const dice = this.#random.below(10);
    if (dice === 0) this.#cluster.isolate(member.id);
    else if (dice === 1) this.#cluster.cut(member.id, this.#pick(this.#members).id);
    else if (dice < 6) this.#cluster.heal();
  }

  #crashOrRestart(member: Member): void {
    if (!this.#faults.has('crash')) return;
    if (member.raft !== undefined) {
      if (this.#random.below(4) > 0) return;
      member.crash();
      this.#checker.crashed(member);
    } else {
      const kept = member.applied.length - this.#random.below(this.#pick([4, 4, 100]));
      member.start(Math.max(0, kept));
    }
  }

  #settle(): void {
    for (let rounds = 0; rounds < 2_000; rounds += 1) {
      const messages = this.#cluster.network.splice(0);
      const writers = this.#members.filter((member) => member.write !== undefined);
      for (const member of this.#members) {
        while (member.wanted.size + this.#snapshots.length > 0) this.#carrySnapshot(member);
      }
      if (messages.length === 0 && writers.length === 0) return;
      for (const message of messages) this.#cluster.deliver(message);
      for (const writer of writers) {
        this.#cluster.finishWrite(writer);
      }
    }
    throw new Error('messages go round for ever');
  }

  #observe(member: Member, ready: Ready): void {
    for (const message of ready.messages) {
      if (this.#past.length < 200) this.#past.push(message);
      else this.#past[this.#random.below(this.#past.length)] = message;
      this.#mix(message.kind.length + message.term * 31 + Number(message.to));
    }
    this.#mix(ready.committed.length + (ready.write?.entries.length ?? 0) * 7 + Number(member.id));
    if (ready.write?.snapshot !== undefined) this.reached.add('snapshot');
    if (ready.refused.length > 0) this.reached.add('refusal');
    this.#checker.observe(member, ready);
  }

  #noteMembers({ id, raft, configuration }: Member): void {
    if (isJoint(configuration)) this.reached.add('joint');
    if (configuration.learners.length > 0) this.reached.add('learner');
    const isRemoved = raft?.role === 'leader' && !isVoter(configuration, id);
    if (isRemoved) this.reached.add('removed leader');
  }

  #mix(value: number): void {
    this.fingerprint = (Math.imul(this.fingerprint, 31) + value) >>> 0;
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.#random.below(from.length)];
    assert(picked !== undefined, 'there is something to pick from');
    return picked;
  }
}

function configurationEntry(changes: string): Proposal {
  return { kind: 'configuration', data: Buffer.from(changes) };
}
