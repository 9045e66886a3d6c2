/**
 * What must not get into a cluster: messages that are broken, foreign, from the past or the future,
 * and members that are not who they say. Each is refused with a sentence that says what to do, and the
 * cluster goes on as if nothing had been.
 */

import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PROTOCOL_VERSION } from '../../../server/transport/transport.ts';
import { Message } from '../../../server/wire/conclave/v1/raft.ts';
import { within } from '../../support/wait.ts';
import type { FaultCluster } from '../cluster/cluster.ts';
import { FaultMember } from '../cluster/member.ts';
import { joinAnew } from '../cluster/replace.ts';
import { type Greeting, PeerClient, type Refusal } from './peer-client.ts';

const invalidArgument = 3;
const failedPrecondition = 9;
const refusalTimeoutMs = 20_000;

export type BadInput = {
  readonly name: string;
  readonly run: (cluster: FaultCluster) => Promise<void>;
};

/** The last member is down, so that its name is free to be used by the harness. */
async function withImpostor(
  cluster: FaultCluster,
  use: (peer: PeerClient, greeting: Greeting) => Promise<void>,
): Promise<void> {
  const [first] = cluster.members;
  const last = cluster.members.at(-1);
  if (first === undefined || last === undefined) throw new Error('the cluster has no members');
  await last.kill();
  const peer = new PeerClient(first.site.peer);
  try {
    const { clusterId, memberId, members } = await peer.members();
    const impostor = members.find(({ name }) => name === last.name);
    if (impostor === undefined) throw new Error(`${last.name} is not listed`);
    const { id: from, incarnation } = impostor;
    await use(peer, {
      protocolVersion: PROTOCOL_VERSION,
      clusterId,
      from,
      to: memberId,
      incarnation,
    });
  } finally {
    peer.close();
    cluster.restart(last);
  }
}

function expectRefusal(refusal: Refusal, code: number, sentence: RegExp): void {
  if (refusal.code !== code || !sentence.test(refusal.sentence))
    throw new Error(
      `refused with ${refusal.code} "${refusal.sentence}", expected ${code} and ${sentence}`,
    );
}

const refusedGreeting = (name: string, change: Partial<Greeting>, sentence: RegExp): BadInput => ({
  name,
  run: (cluster) =>
    withImpostor(cluster, async (peer, greeting) => {
      const refusal = await peer.messages({ ...greeting, ...change }, []);
      expectRefusal(refusal, failedPrecondition, sentence);
    }),
});

/** A process that must end by itself, with a sentence in its last words. */
async function expectEnd(member: FaultMember, sentence: RegExp): Promise<void> {
  try {
    const exit = await within(member.process.exited, refusalTimeoutMs, `the end of ${member.name}`);
    const words = member.process.logTail(6);
    if (exit.code === 0) throw new Error(`${member.name} ended as if all were well:\n${words}`);
    if (!sentence.test(words)) throw new Error(`expected ${sentence} in:\n${words}`);
  } finally {
    if (member.isRunning) await member.kill();
  }
}

/** A member beside the cluster's own, at a place of its own. */
async function stranger(
  cluster: FaultCluster,
  { name, dataDirectory }: { readonly name: string; readonly dataDirectory: string },
): Promise<FaultMember> {
  const index = cluster.members.length;
  return new FaultMember({
    ...{ store: cluster.store, network: cluster.network, index, name, dataDirectory },
    ...{ site: await cluster.network.site(index), logPath: `${dataDirectory}.log` },
  });
}

export const badInputs: readonly BadInput[] = [
  {
    name: 'bytes that are no protocol at all',
    async run(cluster) {
      for (const member of cluster.members) {
        const peer = new PeerClient(member.site.peer);
        await peer.garbage(randomBytes(4_096));
        await peer.garbage(Buffer.from('GET / HTTP/1.1\r\nHost: peer\r\n\r\n'));
        const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
        await peer.garbage(Buffer.concat([preface, randomBytes(4_096)]));
        peer.close();
      }
    },
  },
  {
    name: 'a malformed message from a member',
    run: (cluster) =>
      withImpostor(cluster, async (peer, greeting) => {
        const refusal = await peer.messages(greeting, [randomBytes(64)]);
        expectRefusal(refusal, invalidArgument, /./);
      }),
  },
  {
    name: 'a message of a kind that does not exist yet',
    run: (cluster) =>
      withImpostor(cluster, async (peer, greeting) => {
        // Frame { messages { term: 1, field 99: "" } }
        const unknownKind = Buffer.from([0x0a, 0x05, 0x08, 0x01, 0x9a, 0x06, 0x00]);
        const refusal = await peer.messages(greeting, [unknownKind]);
        expectRefusal(refusal, invalidArgument, /./);
      }),
  },
  {
    name: 'numbers that no log can reach',
    run: (cluster) =>
      withImpostor(cluster, async (peer, greeting) => {
        const message = Message.encode(
          Message.create({
            term: 2n ** 60n,
            body: { $case: 'heartbeat', value: { commit: 2n ** 61n, context: 1n } },
          }),
        ).finish();
        const frame = Buffer.concat([Buffer.from([0x0a, message.length]), message]);
        expectRefusal(await peer.messages(greeting, [frame]), invalidArgument, /./);
      }),
  },
  refusedGreeting(
    'a member from the future',
    { protocolVersion: PROTOCOL_VERSION + 1 },
    new RegExp(`version ${PROTOCOL_VERSION + 1} .*Upgrade`),
  ),
  refusedGreeting(
    'a member of another cluster',
    { clusterId: 0xbadn },
    /cluster .*--initial-cluster/,
  ),
  refusedGreeting(
    'a member that nobody added',
    { from: 0xbadn },
    /not a member.*conclave member add/,
  ),
  refusedGreeting(
    'a call meant for another address',
    { to: 0xbadn },
    /peer URL.*conclave member update/,
  ),
  refusedGreeting(
    'a member that came back with an empty disk',
    { incarnation: 0xbadn },
    /another data directory.*conclave member replace/,
  ),
  {
    name: 'a second process with the identity of a member that runs',
    async run(cluster) {
      const [first, second] = cluster.members;
      if (first === undefined || second === undefined) throw new Error('the cluster is too small');
      const peer = new PeerClient(first.site.peer);
      try {
        const { clusterId, memberId: to, members } = await peer.members();
        const copied = members.find(({ name }) => name === second.name);
        const greeting = {
          ...{ protocolVersion: PROTOCOL_VERSION, clusterId, to, from: copied?.id ?? 0n },
          incarnation: copied?.incarnation ?? 0n,
        };
        const refusal = await peer.messages(greeting, []);
        expectRefusal(refusal, failedPrecondition, /connected already.*stop one of them/);
      } finally {
        peer.close();
      }
    },
  },
  ...(['chunk', 'whole'] as const).map(
    (wrong): BadInput => ({
      name: `a snapshot with a wrong checksum of the ${wrong}`,
      run: (cluster) =>
        withImpostor(cluster, async (peer, greeting) => {
          const status = await cluster.members[0]?.status();
          const term = (status?.raftTerm ?? 1n) + 1n;
          const index = (status?.raftIndex ?? 1n) + 1_000n;
          const refusal = await peer.snapshot(greeting, wrong, { term, index });
          if (refusal.code === 0 || !/checksum|hash/i.test(refusal.sentence))
            throw new Error(`answered ${refusal.code} "${refusal.sentence}"`);
        }),
    }),
  ),
  {
    name: 'a member started with the data directory of another',
    async run(cluster) {
      const [source] = cluster.members;
      const last = cluster.members.at(-1);
      if (source === undefined || last === undefined) throw new Error('the cluster is too small');
      await Promise.all([source.kill(), last.kill()]);
      const aside = `${last.dataDirectory}.aside`;
      cpSync(last.dataDirectory, aside, { recursive: true });
      last.wipe();
      cpSync(source.dataDirectory, last.dataDirectory, { recursive: true });
      try {
        cluster.restart(last);
        await expectEnd(last, /belongs to member 'm0'.*directory/);
      } finally {
        last.wipe();
        cpSync(aside, last.dataDirectory, { recursive: true });
        rmSync(aside, { recursive: true });
        cluster.restart(source);
        cluster.restart(last);
      }
    },
  },
  {
    name: 'a member whose data directory was emptied',
    async run(cluster) {
      const last = cluster.members.at(-1);
      if (last === undefined) throw new Error('the cluster has no members');
      await last.kill();
      const aside = `${last.dataDirectory}.aside`;
      cpSync(last.dataDirectory, aside, { recursive: true });
      last.wipe();
      try {
        cluster.restart(last);
        await expectEnd(last, /lived before.*conclave member replace/);
      } finally {
        last.wipe();
        cpSync(aside, last.dataDirectory, { recursive: true });
        rmSync(aside, { recursive: true });
        cluster.restart(last);
      }
    },
  },
  {
    name: 'two members with one name',
    async run(cluster) {
      const [first] = cluster.members;
      if (first === undefined) throw new Error('the cluster has no members');
      const dataDirectory = join(first.dataDirectory, '..', 'of-the-namesake');
      const namesake = await stranger(cluster, { name: first.name, dataDirectory });
      const { client } = await cluster.leader();
      const { member } = await client.cluster.memberAdd({
        peerURLs: [namesake.peerUrl],
        isLearner: true,
      });
      try {
        const others = cluster.members.slice(1).map(({ name, peerUrl }) => `${name}=${peerUrl}`);
        const initialCluster = [`${namesake.name}=${namesake.peerUrl}`, ...others].join(',');
        namesake.start(cluster.startFlags({ initialCluster, state: 'existing' }));
        await expectEnd(namesake, /has the name 'm0' already.*--name/);
      } finally {
        await client.cluster.memberRemove({ ID: member?.ID ?? 0n });
        if (existsSync(dataDirectory)) rmSync(dataDirectory, { recursive: true });
      }
    },
  },
  {
    name: 'a member of another cluster that is pointed at this one',
    async run(cluster) {
      const [first] = cluster.members;
      if (first === undefined) throw new Error('the cluster has no members');
      const dataDirectory = join(first.dataDirectory, '..', 'of-the-stranger');
      const foreign = await stranger(cluster, { name: 'foreign', dataDirectory });
      const own = `${foreign.name}=${foreign.peerUrl}`;
      foreign.start({
        ...{ initialCluster: `${cluster.initialCluster()},${own}`, state: 'new' },
        token: 'another-cluster',
      });
      await expectEnd(foreign, /belongs to cluster .*conclave member add/);
    },
  },
  {
    name: 'a removed member that comes back',
    async run(cluster) {
      const last = cluster.members.at(-1);
      if (last === undefined) throw new Error('the cluster has no members');
      await last.kill();
      const { client } = await cluster.leader();
      const { members } = await client.cluster.memberList({});
      const listed = members.find(({ name }) => name === last.name);
      await client.cluster.memberRemove({ ID: listed?.ID ?? 0n });
      cluster.restart(last);
      try {
        await expectEnd(last, /removed from .*conclave member add/);
      } finally {
        await joinAnew(cluster, last);
      }
    },
  },
];
