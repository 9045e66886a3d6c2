/** A cluster as its operator sees it: three processes, one of which is replaced by a fourth. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { endpointOf, LocalCluster } from '../../recipes/cli/dev/local-cluster.ts';
import { freePort } from '../support/process.ts';
import { cliInProcess, loader, RunningCli } from './cli.ts';
import { eventually } from './run/harness.ts';

const START_MS = 60_000;

type Row = { readonly id: string; readonly name: string; readonly isLearner: boolean };

let directory: string;
let cluster: LocalCluster;
let newcomer: RunningCli | undefined;
/** What the member wrote that is replaced. */
const said: string[] = [];

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-members-'));
  const members = [];
  for (const name of ['a', 'b', 'c']) {
    members.push({ name, clientPort: await freePort(), peerPort: await freePort() });
  }
  cluster = await LocalCluster.start({
    members,
    directory,
    nodeOptions: ['--import', loader],
    onLine: (name, line) => {
      if (name === 'c') said.push(line);
    },
  });
}, START_MS);

afterAll(async () => {
  newcomer?.kill('SIGKILL');
  await newcomer?.finished;
  await cluster?.stop();
  rmSync(directory, { recursive: true });
});

async function run(...argv: readonly string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await cliInProcess([
    ...argv,
    '--endpoints',
    cluster.endpoints,
  ]);
  expect({ exitCode, stderr: exitCode === 0 ? '' : stderr }).toEqual({ exitCode: 0, stderr: '' });
  return stdout;
}

const list = async (): Promise<readonly Row[]> =>
  JSON.parse(await run('member', 'list', '-o', 'json')).members;

const idOf = async (name: string): Promise<string> =>
  (await list()).find((row) => row.name === name)?.id ?? '';

test('a dead member is replaced: learner first, then its vote, and the old one leaves for good', async () => {
  await run('kv', 'put', 'before', 'kept');
  const old = await idOf('c');
  await cluster.kill('c');

  const [client, peer] = [`http://127.0.0.1:${await freePort()}`, await freePort()];
  const peerUrl = `http://127.0.0.1:${peer}`;
  const replacing = run('member', 'replace', old, 'd', '--peer-urls', peerUrl, '--wait', '50s');
  const learner = async (): Promise<boolean> => (await list()).some(({ isLearner }) => isLearner);
  while (!(await learner()));
  expect((await list()).map(({ id }) => id)).toContain(old);

  const named = cluster.members.map((each) => `${each.name}=http://127.0.0.1:${each.peerPort}`);
  newcomer = new RunningCli(
    [
      'serve',
      ...['--name', 'd', '--data-dir', join(directory, 'd')],
      ...['--initial-cluster-state', 'existing'],
      ...['--initial-cluster', [...named, `d=${peerUrl}`].join(',')],
      ...['--initial-advertise-peer-urls', peerUrl, '--listen-peer-urls', peerUrl],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
    ],
    { directory },
  );
  await replacing;

  const now = await list();
  expect(now.map(({ name }) => name).sort()).toEqual(['a', 'b', 'd']);
  expect(now.filter(({ isLearner }) => isLearner)).toEqual([]);
  const endpoint = client.replace('http://', '');
  const got = await cliInProcess(['kv', 'get', 'before', '-o', 'raw', '--endpoints', endpoint]);
  expect(got.stdout).toBe('kept');

  // With the newcomer's vote the cluster survives the loss of another.
  await cluster.kill('b');
  await run('kv', 'put', 'after', 'too');
  await cluster.start('b');
}, 90_000);

test('the replaced member is told to stay away, in a sentence that says what to do', async () => {
  // It may listen for a moment before the others tell it.
  await cluster.start('c').catch((error: Error) => said.push(error.message));
  await eventually('the reason', () => said.some((line) => /was removed/.test(line)), 30_000);
  await eventually('it to leave', () => !cluster.isRunning('c'), 30_000);
  // It has noted that: nobody needs to be there to say it again.
  const directoryOfC = join(directory, 'c');
  const alone = ['serve', '--name', 'c', '--data-dir', directoryOfC];
  const { exitCode, stderr } = await cliInProcess(alone);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/was removed from cluster .*, for good.*conclave member add/);
}, 60_000);

test('two learners at once, an unknown id and a learner to replace are refused', async () => {
  const at = async (...argv: string[]) =>
    await cliInProcess([...argv, '--endpoints', cluster.endpoints]);
  const unknown = await at('member', 'remove', 'abc');
  expect(unknown.stderr).toMatch(/member not found/);
  const replaced = await at('member', 'replace', 'abc', 'x', '--peer-urls', 'http://127.0.0.1:1');
  expect(replaced).toMatchObject({ exitCode: 3 });

  const first = JSON.parse(
    await run('member', 'add', 'x', '--peer-urls', 'http://127.0.0.1:1', '-o', 'json'),
  );
  expect(first).toMatchObject({ isLearner: true, initialClusterState: 'existing' });
  expect(first.initialCluster).toMatch(/a=.*x=http:\/\/127\.0\.0\.1:1$/);
  const second = await at('member', 'add', 'y', '--peer-urls', 'http://127.0.0.1:2');
  expect(second.stderr).toMatch(/too many learner members/);
  const early = await at('member', 'promote', first.id, '--wait', '300ms');
  expect(early).toMatchObject({ exitCode: 124 });
  const learner = await at('member', 'replace', first.id, 'z', '--peer-urls', 'http://127.0.0.1:3');
  expect(learner.stderr).toMatch(/is a learner/);
  await run('member', 'remove', first.id);
}, 60_000);

test('members are not told to speak https, which they cannot', async () => {
  const argv = ['member', 'add', 'x', '--peer-urls', 'http://127.0.0.1:1,https://127.0.0.1:2'];
  const { exitCode, stderr } = await cliInProcess([...argv, '--endpoints', cluster.endpoints]);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/without TLS: not 'https:\/\/127\.0\.0\.1:2'/);
});

test('an endpoint that is up answers for the whole cluster', async () => {
  const [a] = cluster.members;
  if (a === undefined) throw new Error('there is a first member');
  const { stdout } = await cliInProcess(['status', '-o', 'json', '--endpoints', endpointOf(a)]);
  expect(JSON.parse(stdout).members[0].leader).not.toBeNull();
});
