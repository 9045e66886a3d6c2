/** `conclave dev`: a cluster on this machine, whose members can be killed and started by a key. */
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { connect } from '../../../sdk/index.ts';
import { countOption } from '../arguments.ts';
import { LeaderWatch } from '../dev/leader-watch.ts';
import { endpointOf, LocalCluster, type LocalMember } from '../dev/local-cluster.ts';
import { readableLogLine } from '../dev/log-line.ts';
import { exitCodes } from '../exit-codes.ts';
import { CliError, usageError } from '../failure.ts';
import { note } from '../stderr.ts';
import { addExamples } from '../verb.ts';

type DevOptions = {
  readonly members: number;
  readonly port: number;
  readonly dir: string;
  readonly fresh?: boolean;
};

const MOST_MEMBERS = 6;
const names = 'abcdef';
/** In raw mode it is a key like any other. */
const CONTROL_C = '\u0003';

function membersOption(text: string): number {
  const count = countOption(1)(text);
  if (count > MOST_MEMBERS) {
    throw new InvalidArgumentError(`It must be a whole number from 1 to ${MOST_MEMBERS}.`);
  }
  return count;
}

const ETCD_PORT = 2379;
const PORTS_BETWEEN_MEMBERS = 10_000;
const LAST_PORT = 65_535;

/** The port and the next one for the first, and 10,000 more for each of the others. */
const memberAt = (index: number, port: number): LocalMember => ({
  name: names.charAt(index),
  clientPort: port + PORTS_BETWEEN_MEMBERS * index,
  peerPort: port + 1 + PORTS_BETWEEN_MEMBERS * index,
});

function checkPort(port: number, members: number): void {
  const most = LAST_PORT - 1 - PORTS_BETWEEN_MEMBERS * (members - 1);
  if (port > most) throw usageError(`${port} as --port: with ${members} members at most ${most}`);
}

/** Runs until somebody asks to stop; the members' letters kill and start them meanwhile. */
async function play(cluster: LocalCluster): Promise<void> {
  const input = process.stdin;
  const isInteractive = input.isTTY === true;
  let leave = (): void => undefined;
  const left = new Promise<void>((resolveLeft) => {
    leave = resolveLeft;
  });
  const onKey = (key: Buffer): void => {
    const text = key.toString();
    if (text === CONTROL_C || text === 'q') {
      leave();
      return;
    }
    const member = cluster.members[names.indexOf(text)];
    if (member !== undefined) void toggle(cluster, member.name);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, leave);
  if (isInteractive) {
    input.setRawMode(true).on('data', onKey);
    note(
      `keys: ${[...names.slice(0, cluster.members.length)].join(' ')} kill or start a member, q stops`,
    );
  }
  await left;
  if (isInteractive) input.setRawMode(false).pause();
}

async function toggle(cluster: LocalCluster, name: string): Promise<void> {
  if (cluster.isRunning(name)) {
    await cluster.kill(name);
    note(`member ${name}: killed`);
    return;
  }
  try {
    await cluster.start(name);
    note(`member ${name}: runs again`);
  } catch (error) {
    note(error instanceof Error ? error.message : String(error));
  }
}

async function dev({ members, port, dir, fresh }: DevOptions): Promise<void> {
  checkPort(port, members);
  // Members know each other by their ports, so data belongs to them.
  const at = port === ETCD_PORT ? '' : `-at-${port}`;
  const directory = join(resolve(dir), `members-${members}${at}`);
  if (fresh) await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  const starting = LocalCluster.start({
    members: Array.from({ length: members }, (_, index) => memberAt(index, port)),
    directory,
    onLine: (name, line) => note(`member ${name}: ${readableLogLine(line)}`),
    onLost: (name, how) => note(`member ${name}: ended by itself (${how})`),
  });
  const cluster = await starting.catch((error: unknown) => {
    const message = error instanceof Error ? error.message : String(error);
    const remedy = message.includes('EADDRINUSE') ? 'choose other ports with --port' : undefined;
    throw new CliError(message, exitCodes.failed, remedy);
  });
  const client = await connect(cluster.endpoints);
  const watch = new LeaderWatch(client.cluster, (leader, term) =>
    note(leader === undefined ? 'no leader' : `member ${leader} leads (term ${term})`),
  );
  for (const member of cluster.members) {
    note(`member ${member.name}: ${endpointOf(member)}, data in ${join(directory, member.name)}`);
  }
  note(`ready; in another terminal: export CONCLAVE_ENDPOINTS=${cluster.endpoints}`);
  watch.start();
  await play(cluster);
  watch.stop();
  await client.close();
  await cluster.stop();
}

export function define(command: Command): void {
  addExamples(command, [
    ['conclave dev', 'three members; press a, b or c to kill one and to start it again'],
    ['conclave dev --members 5 --fresh', 'five, without the data of the last time'],
  ])
    .option('--members <count>', 'how many, each a process of its own', membersOption, 3)
    .option(
      '--port <port>',
      'of the first for clients; the next one is for members, and the others listen 10000 higher each',
      countOption(1),
      ETCD_PORT,
    )
    .option('--dir <dir>', 'where their data stays until the next time', '.conclave/dev')
    .option('--fresh', 'begin without the data of the last time')
    .action(dev);
}
