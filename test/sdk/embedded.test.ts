import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { connect } from '../../sdk/index.ts';
import { startMember } from '../../server/index.ts';
import { waitFor } from '../support/wait.ts';

const script = new URL('../support/embedded-child.ts', import.meta.url).pathname;
const quick = { minDelay: 5, maxDelay: 100 } as const;

/** Another process on the same directory. */
class Neighbour {
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
  readonly #answers: AsyncIterator<string>;

  constructor(directory: string, environment: NodeJS.ProcessEnv) {
    this.process = spawn(process.execPath, ['--import', 'tsx', script, directory], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
    this.exited = new Promise((resolve) => this.process.once('exit', () => resolve()));
    const { stdout } = this.process;
    if (stdout === null) throw new Error('the child has no output');
    this.#answers = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  static async open(directory: string, environment: NodeJS.ProcessEnv = {}): Promise<Neighbour> {
    const neighbour = new Neighbour(directory, environment);
    neighbours.push(neighbour);
    expect(await neighbour.answer()).toBe('open');
    return neighbour;
  }

  async answer(): Promise<unknown> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error('the child has ended');
    return JSON.parse(value);
  }

  ask(line: string): Promise<unknown> {
    this.process.stdin?.write(`${line}\n`);
    return this.answer();
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
  }
}

let directory: string;
let neighbours: Neighbour[] = [];
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'conclave-embedded-'));
});
afterEach(async () => {
  await Promise.all(neighbours.map((neighbour) => neighbour.kill()));
  neighbours = [];
  vi.unstubAllEnvs();
  await rm(directory, { recursive: true, force: true });
});
const open = (path = directory) => connect({ directory: path, retry: quick });

test('a store in a directory is durable', async () => {
  const first = await open();
  const { revision } = await first.kv.put('a', '1');
  let bytes = 0;
  for await (const chunk of first.cluster.snapshot()) bytes += chunk.length;
  expect(bytes % 512).toBe(32);
  await first.close();
  await using second = await open();
  expect(await second.kv.get('a')).toMatchObject({ modRevision: revision });
});

test('clients of one process share it; it closes with the last', async () => {
  const first = await open();
  const second = await open(`${directory}/.`);
  await first.kv.put('a', '1');
  await first.close();
  expect(await second.kv.getString('a')).toBe('1');
  await second.close();
  expect(existsSync(join(directory, 'conclave.sock'))).toBe(false);
});

test('a directory with a long path works too', async () => {
  const path = join(directory, 'x'.repeat(120));
  const [mine, theirs] = [join(directory, 'mine'), join(directory, 'theirs')];
  for (const runtime of [mine, theirs]) await mkdir(runtime, { mode: 0o700 });
  vi.stubEnv('XDG_RUNTIME_DIR', mine);
  await using client = await open(path);
  await client.kv.put('a', '1');
  const neighbour = await Neighbour.open(path, { XDG_RUNTIME_DIR: theirs });
  expect(await neighbour.ask('get a')).toBe('1');
});

test('says so when a server that does not listen there owns the directory', async () => {
  const member = await startMember({ directory, listenClientUrls: ['http://127.0.0.1:0'] });
  try {
    await expect(connect({ directory, connectTimeout: '300ms' })).rejects.toMatchObject({
      code: 'DATA_DIRECTORY_IN_USE',
      message: expect.stringContaining(directory),
      remedy: expect.stringContaining('endpoints'),
    });
  } finally {
    await member.close();
  }
  // Gone, it is in nobody's way any more.
  await using client = await open();
  await client.kv.put('a', '1');
});

test.runIf(process.platform === 'linux')('a directory that cannot be made is refused', async () => {
  await expect(open('/proc/conclave/x')).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining('/proc/conclave'),
  });
});

test('says so when the directory cannot hold a store', async () => {
  const path = join(directory, 'file');
  await writeFile(path, '');
  await expect(open(path)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(path),
  });
  await expect(open(tmpdir())).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(tmpdir()),
  });
});

test('a store that cannot even be loaded is said at once, with its cause and what to do', async () => {
  vi.doMock('../../server/index.ts', () => {
    throw new Error('no binary of LMDB');
  });
  try {
    await expect(connect({ directory, connectTimeout: '1h' })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      cause: expect.any(Error),
      remedy: expect.stringContaining('Install'),
    });
  } finally {
    vi.doUnmock('../../server/index.ts');
  }
});

test('another process attaches; when the host is killed this one takes over, sessions and watches go on', async () => {
  const host = await Neighbour.open(directory);
  await host.ask('put a 1');
  await using client = await open();
  expect(await client.kv.getString('a')).toBe('1');
  const session = await client.session({ ttl: '10s' });
  await client.kv.put('mine', '', { lease: session.lease });
  const watch = client.kv.watch({ prefix: 'w/' });
  await watch.created;
  const killedAt = performance.now();
  await host.kill();
  expect(await client.kv.getString('a')).toBe('1');
  expect(performance.now() - killedAt).toBeLessThan(5_000);
  const { revision } = await client.kv.put('w/1', '');
  const { value } = await watch[Symbol.asyncIterator]().next();
  expect(value).toMatchObject({ type: 'events', revision });
  await client.leases.keepAlive(session.lease);
  expect(session.state).toBe('live');
  expect(await client.kv.get('mine')).toMatchObject({ lease: session.lease });
});

test('when the host closes, another process takes over and everybody goes on', async () => {
  const client = await open();
  const [one, two] = await Promise.all([Neighbour.open(directory), Neighbour.open(directory)]);
  await one.ask('session');
  await two.ask('put a 1');
  await client.close();
  expect(await one.ask('get a')).toBe('1');
  await one.ask('put a 2');
  expect(await two.ask('get a')).toBe('2');
  await waitFor('the socket of the new host', () =>
    existsSync(join(directory, 'conclave.sock')) ? true : undefined,
  );
  expect(await one.ask('close')).toBe('closed');
  expect(await two.ask('get a')).toBe('2');
  expect(await two.ask('close')).toBe('closed');
  // Nothing keeps a process alive that has closed its client.
  await Promise.all([one.exited, two.exited]);
});
