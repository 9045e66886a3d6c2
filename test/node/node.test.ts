/** The loop of a member over a replica that says what the test wants it to. */
import { expect, test } from 'vitest';
import { AutoCompaction } from '../../server/auto-compaction.ts';
import { Machine } from '../../server/machine.ts';
import { Node, type NodeOptions } from '../../server/node.ts';
import type { Log, State } from '../../server/ports.ts';
import { emptyConfiguration } from '../../server/raft/configuration.ts';
import type { Message } from '../../server/raft/message.ts';
import type { Replica } from '../../server/replica.ts';
import type { Effects, Outgoing } from '../../server/replica-events.ts';
import { MemoryDirectory } from '../../server/storage/memory-directory.ts';
import { VirtualTime } from '../support/virtual-time.ts';

const nothing: Outgoing & Effects = {
  write: undefined,
  messages: [],
  forgotten: undefined,
  outcomes: [],
  readable: [],
  transferred: [],
  published: [],
  leadershipChanged: false,
  installed: false,
  configuration: undefined,
  membersChanged: false,
  needsSnapshot: [],
  more: false,
};

function rig({ isSoleVoter = true } = {}) {
  const time = new VirtualTime();
  const { log, state }: { log: Log; state: State } = new MemoryDirectory();
  const told: string[] = [];
  const tell = (what: string) => () => {
    told.push(what);
  };
  let next: Partial<Outgoing & Effects> = {};
  const replica = {
    machine: new Machine({ minLeaseTtlSeconds: 2, maxTxnOps: 128 }),
    leader: 3n,
    isServingLeader: false,
    isSoleVoter,
    appliedIndex: 0,
    handle: ({ kind }: { kind: string }) => {
      if (kind !== 'tick') told.push(kind);
    },
    outgoing: () => {
      told.push('outgoing');
      return { ...nothing, ...next };
    },
    get hasEffects() {
      return (next.outcomes ?? nothing.outcomes).length > 0;
    },
    effects: () => {
      const effects = { ...nothing, ...next };
      next = {};
      told.push('effects');
      return effects;
    },
    release: () => undefined,
  } as unknown as Replica;
  const observer: NodeOptions['observer'] = {
    stored: tell('observed'),
    installed: tell('observed'),
    proposalFailed: tell('failed'),
    leadershipChanged: tell('leadership'),
  };
  const node = new Node({
    replica,
    log,
    state,
    clock: time,
    timers: time,
    autoCompaction: new AutoCompaction({ mode: 'periodic', retentionMs: 0 }),
    tickMs: 100,
    electionTimeoutMs: 1_000,
    requestTimeoutMs: 7_000,
    snapshotCount: 10_000,
    catchUpEntries: 5_000,
    send: tell('sent'),
    onPublished: tell('published'),
    onCompacted: tell('compacted'),
    onInstalled: tell('installed'),
    onLeadership: tell('leadership'),
    onMembers: tell('members'),
    onSnapshotNeeded: tell('snapshot needed'),
    onForgotten: tell('forgotten'),
    observer,
    onTick: tell('tick'),
    onFatal: (error) => told.push(`fatal: ${error.message}`),
  });
  node.start();
  const give = (given: Partial<Outgoing & Effects>): void => {
    next = given;
  };
  return { node, time, log, state, told, give };
}

test('a tick in which the log turns out to be lost is the last thing that happens', async () => {
  const { time, told, give } = rig();
  await time.pass(100);
  expect(told.at(-1)).toBe('tick');
  told.length = 0;
  give({ forgotten: 50 });
  await time.pass(1_000);
  expect(told).toEqual(['outgoing', 'forgotten']);
});

test('a state that was installed is not gone on with once the log turns out to be lost', async () => {
  const { node, time, log, state, told, give } = rig();
  await time.pass(0);
  let installed = (): void => undefined;
  state.install = () =>
    new Promise((resolve) => {
      installed = resolve;
    });
  log.reset = async () => undefined;
  const content = { kind: 'memory', bytes: new Uint8Array() } as const;
  const position = { index: 7, term: 3 };
  const received = { ...position, sizeBytes: 0, content, discard: async () => undefined };
  node.installation.offer(received);
  const hardState = { term: 3, votedFor: 0n, commit: 7 };
  const configuration = { ...emptyConfiguration, voters: [2n, 3n] };
  const snapshot = { ...position, configuration };
  give({ write: { sequence: 1, hardState, entries: [], snapshot } });
  node.wake();
  await time.pass(0);
  expect(node.installation.isRunning).toBe(true);
  told.length = 0;
  give({ forgotten: 50 });
  installed();
  await node.installation.ended;
  await time.pass(1_000);
  expect(told).toEqual(['observed', 'stored', 'outgoing', 'forgotten']);
});

const write = { sequence: 1, entries: [] };
const outcome = { id: 1, fault: 'stopped' } as const;
const message = { to: 3n } as Message;

test.each([
  { who: 'alone, with nothing', given: {}, isSoleVoter: true, mayBlock: true },
  {
    who: 'alone, with answers',
    given: { outcomes: [outcome] },
    isSoleVoter: true,
    mayBlock: false,
  },
  {
    who: 'alone, with messages',
    given: { messages: [message] },
    isSoleVoter: true,
    mayBlock: false,
  },
  { who: 'with others, with nothing', given: {}, isSoleVoter: false, mayBlock: false },
])('$who to do, the log is told that it may block: $mayBlock', async (situation) => {
  const { given, isSoleVoter, mayBlock } = situation;
  const { node, time, log, told, give } = rig({ isSoleVoter });
  await time.pass(0);
  const asked: unknown[] = [];
  log.append = async (_batch, blocks) => {
    told.push('append');
    asked.push(blocks);
  };
  told.length = 0;
  give({ write, ...given });
  node.wake();
  await time.pass(0);
  expect(asked).toEqual([mayBlock]);
  expect(told.indexOf('append')).toBeLessThan(told.indexOf('effects'));
  if (told.includes('sent')) expect(told.indexOf('sent')).toBeLessThan(told.indexOf('append'));
});

test('what is asked of a loop that has ended is refused, by rejecting', async () => {
  const { node } = rig();
  await node.stop();
  const stopped = { code: 'stopped' };
  const change = { kind: 'member-remove', id: 3n } as const;
  await expect(node.proposeMembership(change)).rejects.toMatchObject(stopped);
  await expect(node.transferLeadership(3n)).rejects.toMatchObject(stopped);
});
