/** The checks that drive a server with etcdctl as Debian ships it (3.4). */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { temporaryDirectory } from '../../support/process.ts';
import { waitFor, within } from '../../support/wait.ts';

export type ClientCheck = {
  readonly name: string;
  readonly run: (endpoint: string) => Promise<void>;
};

/** etcdctl does not end on SIGTERM. */
const commandTimeoutMs = 30_000;

type Result = { readonly code: number; readonly stdout: string; readonly stderr: string };

function environment(): NodeJS.ProcessEnv {
  return { ...process.env, ETCDCTL_API: '3' };
}

/** Runs etcdctl and returns what it printed, whatever its exit code. */
async function run(
  endpoint: string,
  commandArguments: readonly string[],
  input?: string,
): Promise<Result> {
  return await new Promise((resolve) => {
    const child = execFile(
      'etcdctl',
      ['--endpoints', endpoint, ...commandArguments],
      { env: environment(), timeout: commandTimeoutMs, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ code, stdout, stderr });
      },
    );
    child.stdin?.end(input ?? '');
  });
}

/** Runs etcdctl, which must succeed, and returns its lines. */
async function lines(
  endpoint: string,
  commandArguments: readonly string[],
  input?: string,
): Promise<string[]> {
  const { code, stdout, stderr } = await run(endpoint, commandArguments, input);
  assert.equal(code, 0, `etcdctl ${commandArguments.join(' ')}: ${stderr}${stdout}`);
  return stdout.trimEnd().split('\n');
}

async function json(endpoint: string, ...commandArguments: string[]): Promise<unknown> {
  return JSON.parse((await lines(endpoint, [...commandArguments, '-w', 'json'])).join('\n'));
}

/** etcdctl left running; its lines as they come. */
class Running {
  readonly lines: string[] = [];
  readonly #child;
  readonly exited: Promise<number | null>;

  constructor(endpoint: string, commandArguments: readonly string[]) {
    this.#child = spawn('etcdctl', ['--endpoints', endpoint, ...commandArguments], {
      env: environment(),
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.lines.push(line));
    this.exited = new Promise((resolve) => this.#child.once('exit', (code) => resolve(code)));
  }

  async printed(count: number): Promise<string[]> {
    return await waitFor(`${count} lines`, () =>
      this.lines.length >= count ? this.lines.slice(0, count) : undefined,
    );
  }

  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<void> {
    this.#child.kill(signal);
    await within(this.exited, 10_000, 'the end of etcdctl');
  }
}

export const etcdctlChecks: readonly ClientCheck[] = [
  {
    name: 'put, get, prefixes, order, limits and del',
    run: async (at) => {
      for (const [key, value] of Object.entries({ 'kv/b': '2', 'kv/a': '1', 'kv/c': '3' }))
        assert.deepEqual(await lines(at, ['put', key, value]), ['OK']);
      assert.deepEqual(await lines(at, ['get', 'kv/a']), ['kv/a', '1']);
      assert.deepEqual(await lines(at, ['get', '--prefix', 'kv/', '--keys-only']), [
        ...['kv/a', '', 'kv/b', '', 'kv/c'],
      ]);
      assert.deepEqual(
        await lines(at, [
          ...['get', '--prefix', 'kv/', '--order', 'DESCEND', '--sort-by', 'VALUE'],
          ...['--limit', '2', '--print-value-only'],
        ]),
        ['3', '2'],
      );
      assert.deepEqual(await lines(at, ['get', '--from-key', 'kv/b', '--limit', '1']), [
        'kv/b',
        '2',
      ]);
      assert.deepEqual(await lines(at, ['put', '--prev-kv', 'kv/a', '9']), ['OK', 'kv/a', '1']);
      assert.deepEqual(await lines(at, ['del', '--prefix', '--prev-kv', 'kv/']), [
        ...['3', 'kv/a', '9', 'kv/b', '2', 'kv/c', '3'],
      ]);
      assert.deepEqual(await lines(at, ['get', '--prefix', 'kv/']), ['']);
      assert.notEqual((await run(at, ['put', 'kv/none', '--ignore-value'])).code, 0);
    },
  },
  {
    name: 'get at an old revision',
    run: async (at) => {
      const first = (await json(at, 'put', 'old', 'one')) as { header: { revision: number } };
      await lines(at, ['put', 'old', 'two']);
      const { revision } = first.header;
      assert.deepEqual(await lines(at, ['get', 'old', '--rev', `${revision}`]), ['old', 'one']);
      const future = await run(at, ['get', 'old', '--rev', `${revision + 1_000}`]);
      assert.match(future.stderr, /required revision is a future revision/);
    },
  },
  {
    name: 'txn, both branches',
    run: async (at) => {
      await lines(at, ['put', 'txn', 'one']);
      const input = 'value("txn") = "one"\n\nput txn two\nget txn\n\ndel txn\n\n';
      assert.deepEqual(await lines(at, ['txn'], input), [
        ...['SUCCESS', '', 'OK', '', 'txn', 'two'],
      ]);
      assert.deepEqual(await lines(at, ['txn'], input), ['FAILURE', '', '1']);
      const conflict = await run(at, ['txn'], '\nput a 1\nput a 2\n\n\n');
      assert.match(conflict.stderr, /duplicate key given in txn request/);
    },
  },
  {
    name: 'watch, live and from a revision, with previous values',
    run: async (at) => {
      const put = (await json(at, 'put', 'watched', 'one')) as { header: { revision: number } };
      const watching = new Running(at, [
        ...['watch', 'watched', '--prev-kv', '--rev', `${put.header.revision}`],
      ]);
      try {
        assert.deepEqual(await watching.printed(3), ['PUT', 'watched', 'one']);
        await lines(at, ['put', 'watched', 'two']);
        await lines(at, ['del', 'watched']);
        assert.deepEqual(await watching.printed(12), [
          ...['PUT', 'watched', 'one', 'PUT', 'watched', 'one', 'watched', 'two'],
          ...['DELETE', 'watched', 'two', 'watched'],
        ]);
      } finally {
        await watching.stop();
      }
    },
  },
  {
    name: 'lease grant, attach, timetolive, list, keep-alive and revoke',
    run: async (at) => {
      const [granted = ''] = await lines(at, ['lease', 'grant', '120']);
      const id = /^lease ([0-9a-f]+) granted with TTL\(120s\)$/.exec(granted)?.[1] ?? '';
      assert.notEqual(id, '', granted);
      await lines(at, ['put', 'leased', 'v', `--lease=${id}`]);
      const [left = ''] = await lines(at, ['lease', 'timetolive', id, '--keys']);
      assert.match(
        left,
        /granted with TTL\(120s\), remaining\(1[12]\ds\), attached keys\(\[leased\]\)/,
      );
      assert.ok((await lines(at, ['lease', 'list'])).includes(id));
      assert.deepEqual(await lines(at, ['lease', 'keep-alive', '--once', id]), [
        `lease ${id} keepalived with TTL(120)`,
      ]);
      assert.deepEqual(await lines(at, ['lease', 'revoke', id]), [`lease ${id} revoked`]);
      assert.deepEqual(await lines(at, ['get', 'leased']), ['']);
      const gone = await run(at, ['lease', 'revoke', id]);
      assert.match(gone.stderr, /requested lease not found/);
    },
  },
  {
    name: 'lock: the second waits for the first, and a command runs under it',
    run: async (at) => {
      const first = new Running(at, ['lock', 'gate']);
      const [key] = await first.printed(1);
      assert.match(key ?? '', /^gate\/[0-9a-f]+$/);
      const second = new Running(at, ['lock', 'gate']);
      await waitFor('two keys in line', async () =>
        (await lines(at, ['get', '--prefix', 'gate/', '--keys-only'])).filter(Boolean).length === 2
          ? true
          : undefined,
      );
      assert.deepEqual(second.lines, []);
      await first.stop();
      await second.printed(1);
      await second.stop();
      assert.deepEqual(await lines(at, ['lock', 'gate', 'echo', 'inside']), ['inside']);
    },
  },
  {
    name: 'elect: a candidate wins, is observed, and hands over',
    run: async (at) => {
      const first = new Running(at, ['elect', 'office', 'ada']);
      assert.equal((await first.printed(2))[1], 'ada');
      const observer = new Running(at, ['elect', '--listen', 'office']);
      assert.equal((await observer.printed(2))[1], 'ada');
      const second = new Running(at, ['elect', 'office', 'grace']);
      await waitFor('two candidates', async () =>
        (await lines(at, ['get', '--prefix', 'office/', '--keys-only'])).filter(Boolean).length ===
        2
          ? true
          : undefined,
      );
      await first.stop();
      assert.equal((await second.printed(2))[1], 'grace');
      assert.equal((await observer.printed(4))[3], 'grace');
      await second.stop();
      await observer.stop();
    },
  },
  {
    name: 'member list, endpoint status, health and hashkv',
    run: async (at) => {
      const members = (await json(at, 'member', 'list')) as {
        members: { name: string; clientURLs: string[] }[];
      };
      assert.equal(members.members.length, 1);
      assert.equal(members.members[0]?.clientURLs.length, 1);
      const status = (await json(at, 'endpoint', 'status')) as {
        Status: { leader: number; dbSize: number; version: string; raftTerm: number };
      }[];
      assert.ok((status[0]?.Status.leader ?? 0) > 0);
      assert.match(status[0]?.Status.version ?? '', /^\d+\.\d+\.\d+$/);
      const health = await run(at, ['endpoint', 'health']);
      assert.match(`${health.stdout}${health.stderr}`, /is healthy/);
      const hash = (await json(at, 'endpoint', 'hashkv')) as { HashKV: { hash: number } }[];
      assert.ok((hash[0]?.HashKV.hash ?? 0) > 0);
      assert.match((await lines(at, ['endpoint', 'status', '-w', 'table'])).join('\n'), /true/);
    },
  },
  {
    name: 'snapshot save',
    run: async (at) => {
      const path = join(temporaryDirectory('snapshot'), 'saved.db');
      await lines(at, ['put', 'saved', 'v'.repeat(100_000)]);
      await lines(at, ['snapshot', 'save', path]);
      assert.equal(statSync(path).size % 512, 32);
    },
  },
  {
    name: 'compaction, defrag and alarm list',
    run: async (at) => {
      const put = (await json(at, 'put', 'compacted', 'v')) as { header: { revision: number } };
      const { revision } = put.header;
      await lines(at, ['put', 'compacted', 'w']);
      assert.deepEqual(await lines(at, ['compaction', `${revision}`, '--physical']), [
        `compacted revision ${revision}`,
      ]);
      assert.match(
        (await run(at, ['compaction', `${revision}`])).stderr,
        /required revision has been compacted/,
      );
      assert.match(
        (await run(at, ['get', 'compacted', '--rev', `${revision - 1}`])).stderr,
        /required revision has been compacted/,
      );
      assert.match((await lines(at, ['defrag'])).join('\n'), /Finished defragmenting/);
      assert.deepEqual(await lines(at, ['alarm', 'list']), ['']);
    },
  },
  {
    name: 'a watcher below the compacted revision is told so',
    run: async (at) => {
      const put = (await json(at, 'put', 'behind', '1')) as { header: { revision: number } };
      const { revision } = put.header;
      await lines(at, ['put', 'behind', '2']);
      await lines(at, ['put', 'behind', '3']);
      await lines(at, ['compaction', `${revision + 1}`]);
      const behind = await run(at, ['watch', 'behind', '--rev', `${revision}`]);
      assert.match(`${behind.stdout}${behind.stderr}`, /required revision has been compacted/);
    },
  },
  {
    name: 'check perf with the small load',
    run: async (at) => {
      const { stdout, stderr } = await runLong(at, ['check', 'perf', '--load', 's']);
      // Latency depends on the machine; that every request was answered does not.
      assert.match(`${stdout}${stderr}`, /Throughput is|Throughput too low/);
      assert.doesNotMatch(`${stdout}${stderr}`, /FAIL: got error|too many errors/i);
    },
  },
];

/** The performance check takes a minute by itself. */
async function runLong(endpoint: string, commandArguments: readonly string[]): Promise<Result> {
  return await new Promise((resolve) => {
    execFile(
      'etcdctl',
      ['--endpoints', endpoint, ...commandArguments],
      { env: environment(), timeout: 120_000, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : 1, stdout, stderr }),
    );
  });
}
