/** `conclave dev`: a cluster on this machine, whose members can be killed and started by a key. */
import { mkdir, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import { connect } from '../../../sdk/index.ts';
import { countOption } from '../arguments.ts';
import { LeaderWatch } from '../dev/leader-watch.ts';
import { endpointOf, LocalCluster, type LocalMember } from '../dev/local-cluster.ts';
import { readableLogLine } from '../dev/log-line.ts';
import { CliError } from '../failure.ts';
import { note } from '../stderr.ts';
import { addExamples } from '../verb.ts';

type DevOptions = { readonly members: number; readonly dir: string; readonly fresh?: boolean };

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

/** etcd's ports for the first, and 10,000 more for each of the others: 2379, 12379, 22379 ... */
const memberAt = (index: number): LocalMember => ({
  name: names.charAt(index),
  clientPort: 2379 + 10_000 * index,
  peerPort: 2380 + 10_000 * index,
});

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

async function dev({ members, dir, fresh }: DevOptions): Promise<void> {
  const directory = join(resolve(dir), `members-${members}`);
  if (fresh) await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  const starting = LocalCluster.start({
    members: Array.from({ length: members }, (_, index) => memberAt(index)),
    directory,
    onLine: (name, line) => note(`member ${name}: ${readableLogLine(line)}`),
    onLost: (name, how) => note(`member ${name}: ended by itself (${how})`),
  });
  const cluster = await starting.catch((error: unknown) => {
    throw new CliError(error instanceof Error ? error.message : String(error));
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
    .option('--dir <dir>', 'where their data stays until the next time', '.conclave/dev')
    .option('--fresh', 'begin without the data of the last time')
    .action(dev);
}
