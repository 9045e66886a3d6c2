/** Puts the parts of a member together, from its stores up to what the network faces need. */
import type { Logger } from 'pino';
import type { Arrival } from './arrival.ts';
import { AutoCompaction } from './auto-compaction.ts';
import { type Environment, systemEnvironment } from './clock.ts';
import type { MemberOptions } from './embed.ts';
import { isBlank, writeFoundation } from './founding.ts';
import { idToHex } from './ids.ts';
import { Introduction } from './introduction.ts';
import { LeaderQuestions } from './leader-questions.ts';
import { limits } from './limits.ts';
import { LocalMember } from './local-member.ts';
import { Machine } from './machine.ts';
import { MembershipChanges } from './membership-changes.ts';
import { Node } from './node.ts';
import { NodeMetrics } from './node-metrics.ts';
import { Peering } from './peering.ts';
import type { PeerBook, Recovered, StateReader } from './ports.ts';
import { type Configuration, singleMember } from './raft/configuration.ts';
import { NO_NODE } from './raft/message.ts';
import { Raft } from './raft/raft.ts';
import { Replica } from './replica.ts';
import { Roster } from './roster.ts';
import { SpaceKeeper } from './space-keeper.ts';
import type { Stores } from './stores.ts';
import { Hub } from './watch/hub.ts';

export type AssemblyOptions = {
  readonly options: MemberOptions;
  readonly arrival: Arrival;
  readonly stores: Stores;
  readonly logger: Logger;
  readonly requestTimeoutMs: number;
  /** @default the system's */
  readonly environment?: Environment;
  readonly onFatal: (error: Error) => void;
  /** See `PeeringOptions.onExpelled`. */
  readonly onExpelled: (reason: string, isRemoved: boolean) => void;
};

export type Parts = {
  readonly node: Node;
  readonly member: LocalMember;
  readonly peering: Peering;
  readonly introduction: Introduction;
  readonly nodeMetrics: NodeMetrics;
  readonly peerBook: PeerBook;
  /** As far as it knows at first: it may turn out that others were added. */
  readonly isAlone: boolean;
  /** Resolves when this member leads and has applied everything of earlier terms, or has company. */
  readonly serving: Promise<void>;
  /** Tries to lead now instead of waiting for an election timeout. */
  readonly campaign: () => void;
};

const HOUR_MS = 3_600_000;

export async function assemble(assembly: AssemblyOptions): Promise<Parts> {
  const { options, arrival, stores, logger, requestTimeoutMs, onFatal } = assembly;
  const { state, log, identity } = stores;
  const heartbeatMs = options.heartbeatIntervalMs ?? 100;
  const electionTimeoutMs = options.electionTimeoutMs ?? 1_000;
  const { clock, timers, random, reached } = assembly.environment ?? systemEnvironment;

  const machine = new Machine({
    minLeaseTtlSeconds: Math.ceil((1.5 * electionTimeoutMs) / 1000),
    maxTxnOps: options.maxTxnOps ?? limits.txnOps,
  });
  machine.load(state, clock.nowMs());
  const found = stores.takeRecovered();
  const { founders } = arrival;
  const recovered =
    founders !== undefined && isBlank(found) ? await writeFoundation(log, founders) : found;
  const raft = new Raft({
    id: identity.memberId,
    configuration: configurationAtStart(machine, recovered, arrival),
    electionTicks: Math.ceil(electionTimeoutMs / heartbeatMs),
    heartbeatTicks: 1,
    preVote: true,
    checkQuorum: true,
    random,
    recovered,
    appliedIndex: state.appliedIndex,
  });
  const replica = new Replica({
    raft,
    machine,
    state,
    requestTimeoutMs,
    electionTimeoutMs,
    ...(reached === undefined ? {} : { reached }),
  });
  const hub = new Hub({
    source: {
      history: (from, bounds) => {
        try {
          return machine.history(state, from, bounds);
        } catch (error) {
          // Watchers would miss what is damaged without knowing it: better no member than that.
          onFatal(error instanceof Error ? error : new Error(String(error)));
          throw error;
        }
      },
      previous: (kv) => member.previous(kv),
    },
    revision: machine.revision,
    compactRevision: Math.max(0, machine.compactRevision),
  });
  let onServing = (): void => {};
  const serving = new Promise<void>((resolve) => {
    onServing = resolve;
  });
  const campaign = (): void => {
    raft.campaign();
    node.wake();
  };
  const nodeMetrics = new NodeMetrics();
  const node = new Node({
    replica,
    log,
    state,
    clock,
    timers,
    autoCompaction: new AutoCompaction(
      options.autoCompaction ?? { mode: 'periodic', retentionMs: HOUR_MS },
    ),
    tickMs: heartbeatMs,
    electionTimeoutMs,
    requestTimeoutMs,
    snapshotCount: options.snapshotCount ?? 10_000,
    catchUpEntries: options.catchUpEntries ?? limits.catchUpEntries,
    send: (messages) => peering.send(messages),
    onPublished: ({ revision, events }) => hub.publish(revision, events),
    onCompacted: (revision) => hub.compacted(revision),
    onInstalled: () => hub.installed(machine.revision, machine.compactRevision),
    onLeadership: () => {
      // On its own it leads itself: nobody needs to be told.
      if (machine.members.length > 1) logger.info(leadershipOf(raft), 'leadership');
      questions.leadershipChanged();
      peering.leadershipChanged();
      changes.somethingChanged();
      introduction.check();
      if (replica.isServingLeader) onServing();
    },
    onMembers: () => {
      peering.membersChanged();
      changes.somethingChanged();
      if (machine.members.length > 1) onServing();
      // Nobody else could lead.
      const { voters } = raft.configuration;
      if (voters.length === 1 && voters[0] === raft.id && raft.role === 'follower') campaign();
    },
    onSnapshotNeeded: (to) => peering.snapshotNeeded(to),
    onForgotten: (index) => assembly.onExpelled(forgotten(identity.memberId, index), false),
    observer: nodeMetrics,
    onTick: () => {
      space.check();
      introduction.check();
    },
    onFatal,
  });
  node.retention.stored(recovered.entries);
  const questions = new LeaderQuestions({
    self: identity.memberId,
    leader: () => replica.leader,
    ask: (to, question, askOptions) => peering.ask(to, question, askOptions),
    clock,
    timers,
    electionTimeoutMs,
    requestTimeoutMs,
  });
  const changes = new MembershipChanges({
    self: identity.memberId,
    node,
    replica,
    questions,
    progress: () => raft.peers(),
    connectedMs: (id) => peering.connectedMs(id),
    strictReconfigCheck: options.strictReconfigCheck ?? true,
  });
  const member = new LocalMember({
    clusterId: identity.clusterId,
    memberId: identity.memberId,
    name: identity.name,
    electionTimeoutMs,
    quotaBytes: options.quotaBytes ?? limits.quotaBytes,
    node,
    replica,
    state,
    clock,
    timers,
    hub,
    logger,
    snapshot: () => stores.snapshot(),
    questions,
    changes,
    progress: () => raft.peers(),
  });
  const space = new SpaceKeeper(member, logger);
  const introduction = new Introduction(member, node, logger);
  const peerBook = rosterFirst(machine, stores.peers);
  const peering = new Peering({
    node,
    member,
    changes,
    replica,
    raft,
    peerBook,
    inbox: stores.inbox,
    outbox: stores.openOutbox(configurationOf),
    known: arrival.known,
    clock,
    logger,
    observer: nodeMetrics,
    onExpelled: assembly.onExpelled,
  });
  const count = machine.members.length === 0 ? founders?.length : machine.members.length;
  return {
    node,
    member,
    peering,
    introduction,
    nodeMetrics,
    peerBook,
    isAlone: count === 1,
    serving,
    campaign,
  };
}

const forgotten = (id: bigint, index: number): string =>
  `the end of this member's log is lost: it had confirmed entry ${index} and has it no more, and its votes may be lost as well. Its disk did so, or an older copy of the directory was put back. Put a new member in its place: conclave member replace ${idToHex(id)} NAME --peer-urls URL`;

const leadershipOf = ({ leader, role, term }: Raft) => ({
  leader: leader === NO_NODE ? 'none' : idToHex(leader),
  role,
  term,
});

/** Who takes part at the applied index. Those who join do not know, nor do those who just founded. */
function configurationAtStart(
  machine: Machine,
  { entries }: Recovered,
  { identity, founders }: Arrival,
): Configuration {
  const isFounded = machine.members.length > 0 || entries[0]?.kind === 'configuration';
  // Earlier versions knew only of members on their own, and kept no list of them at first.
  const isOldMember = !isFounded && founders?.length === 1;
  return isOldMember ? singleMember(identity.memberId) : machine.configuration;
}

function configurationOf(state: StateReader): Configuration {
  const roster = new Roster();
  roster.load(state);
  return roster.configuration;
}

/** What the cluster has agreed on counts before what this member has seen itself. */
const rosterFirst = (machine: Machine, peers: PeerBook): PeerBook => ({
  known: (id) => {
    const agreed = machine.members.find((member) => member.id === id)?.incarnation ?? 0n;
    return agreed === 0n ? peers.known(id) : agreed;
  },
  remember: (id, incarnation) => peers.remember(id, incarnation),
});
