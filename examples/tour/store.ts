/** The store of the tour: `conclave serve` as a process of its own, on a durable directory. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const DEFAULT_PORT = 2379;

export type TourStore = {
  readonly endpoint: string;
  readonly directory: string;
  /** Rejects when the store ends although nobody stopped it. */
  readonly failed: Promise<never>;
  stop(): Promise<void>;
};

/** Takes the default port if it is free, so that etcdctl finds the store without a flag. */
export async function startStore(): Promise<TourStore> {
  const base = resolve('.conclave');
  await mkdir(base, { recursive: true });
  const directory = await mkdtemp(join(base, 'tour-'));
  const port = (await isFree(DEFAULT_PORT)) ? DEFAULT_PORT : await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(process.execPath, [
    fileURLToPath(new URL('../../recipes/cli/main.js', import.meta.url)),
    'serve',
    '--data-dir',
    join(directory, 'data'),
    '--listen-client-urls',
    url,
    '--advertise-client-urls',
    url,
    '--log-level',
    'warn',
  ]);
  let stopping = false;
  const failed = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => {
      if (!stopping) reject(new Error(`the store ended (${signal ?? code}) during the tour`));
    });
  });
  failed.catch(() => undefined);
  await Promise.race([ready(child), failed]);
  return {
    endpoint: `127.0.0.1:${port}`,
    directory,
    failed,
    async stop() {
      stopping = true;
      const ended = new Promise<void>((done) => child.once('exit', () => done()));
      if (child.exitCode === null && child.kill('SIGTERM')) await ended;
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** `serve` prints one line when it is ready; what it says before is shown if it never is. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((done, fail) => {
    let said = '';
    child.stdout?.resume();
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (/ready/i.test(said)) done();
    });
    child.once('exit', () => fail(new Error(`the store did not start:\n${said}`)));
  });
}

function isFree(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const probe = createServer()
      .once('error', () => answer(false))
      .listen(port, '127.0.0.1', () => probe.close(() => answer(true)));
  });
}

function freePort(): Promise<number> {
  return new Promise((answer, fail) => {
    const probe = createServer()
      .once('error', fail)
      .listen(0, '127.0.0.1', () => {
        const address = probe.address();
        const port = typeof address === 'object' && address !== null ? address.port : 0;
        probe.close(() => answer(port));
      });
  });
}
