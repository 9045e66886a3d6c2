/** Data verbs against a real etcd: the JSON contract, exit codes, what goes to which stream. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../sdk/index.ts';
import { TestServer } from '../support/servers.ts';
import { type CliOptions, cli, cliInProcess, RunningCli } from './cli.ts';
import { eventually } from './run/harness.ts';

let etcd: TestServer;
let directory: string;

beforeAll(async () => {
  etcd = await TestServer.start('etcd');
  directory = mkdtempSync(join(tmpdir(), 'conclave-cli-'));
});
afterAll(async () => {
  await etcd.stop();
  rmSync(directory, { recursive: true });
});

const run = (argv: readonly string[], options: CliOptions = {}) =>
  cliInProcess(argv, {
    ...options,
    environment: { CONCLAVE_ENDPOINTS: etcd.endpoint, ...options.environment },
  });

/** Runs the verb with `-o json`; stderr must be silent and stdout one document. */
async function json(argv: readonly string[], options: CliOptions = {}): Promise<unknown> {
  const { exitCode, stdout, stderr } = await run([...argv, '-o', 'json'], options);
  expect({ stderr, exitCode }).toEqual({ stderr: '', exitCode: 0 });
  return JSON.parse(stdout);
}

const number64 = expect.stringMatching(/^\d+$/);
const id = expect.stringMatching(/^[0-9a-f]{1,16}$/);
const keyValue = (key: string, value: string) => ({
  key,
  value,
  createRevision: number64,
  modRevision: number64,
  version: number64,
  lease: null,
});

describe('the JSON contract', () => {
  test('kv put, get, del', async () => {
    expect(await json(['kv', 'put', 'j/a', '1'])).toEqual({ revision: number64, previous: null });
    expect(await json(['kv', 'put', 'j/a', '--prev-kv'], { input: '2' })).toEqual({
      revision: number64,
      previous: keyValue('j/a', '1'),
    });
    expect(await json(['kv', 'get', 'j/a'])).toEqual({
      kvs: [{ ...keyValue('j/a', '2'), version: '2' }],
      count: '1',
      more: false,
      revision: number64,
    });
    expect(await json(['kv', 'get', 'j/', '--prefix', '--count-only'])).toEqual({ count: '1' });
    expect(await json(['kv', 'del', 'j/', '--prefix', '--prev-kv'])).toEqual({
      deleted: '1',
      revision: number64,
      previous: [keyValue('j/a', '2')],
    });
  });

  test('kv txn, as a script and as a document', async () => {
    const script = 'version("t/a") = "0"\n\nput t/a "two words"\nget t/ --prefix\n\nget t/a\n';
    expect(await json(['kv', 'txn'], { input: script })).toEqual({
      succeeded: true,
      revision: number64,
      responses: [
        { put: { revision: number64, previous: null } },
        {
          get: { kvs: [keyValue('t/a', 'two words')], count: '1', more: false, revision: number64 },
        },
      ],
    });
    const document = `{
      "if": [{ "key": "t/a", "target": "value", "operator": "==", "operand": "two words" }],
      "then": [{ "delete": { "prefix": "t/", "prevKv": true } }]
    }`;
    expect(await json(['kv', 'txn'], { input: document })).toEqual({
      succeeded: true,
      revision: number64,
      responses: [
        {
          delete: { deleted: '1', revision: number64, previous: [keyValue('t/a', 'two words')] },
        },
      ],
    });
  });

  test('lease grant, keep-alive, ttl, list, revoke', async () => {
    const granted = (await json(['lease', 'grant', '60s'])) as { id: string };
    expect(granted).toEqual({ id, ttlMs: 60_000 });
    expect(await json(['kv', 'put', 'l/a', '1', '--lease', granted.id])).toBeDefined();
    expect(await json(['kv', 'get', 'l/a'])).toMatchObject({ kvs: [{ lease: granted.id }] });
    expect(await json(['lease', 'keep-alive', granted.id, '--once'])).toEqual({
      id: granted.id,
      ttlMs: 60_000,
    });
    expect(await json(['lease', 'ttl', granted.id, '--keys'])).toEqual({
      id: granted.id,
      ttlMs: expect.any(Number),
      grantedTtlMs: 60_000,
      keys: [{ key: 'l/a' }],
    });
    expect(await json(['lease', 'list'])).toEqual({ leases: [{ id: granted.id }] });
    expect(await json(['lease', 'revoke', granted.id])).toEqual({ id: granted.id });
    expect((await run(['lease', 'ttl', granted.id])).exitCode).toBe(3);
    expect((await run(['lease', 'keep-alive', granted.id])).exitCode).toBe(3);
  });

  test('status, member list, version', async () => {
    expect(await json(['status'])).toEqual({
      members: [
        {
          endpoint: etcd.endpoint,
          memberId: id,
          clusterId: id,
          role: 'leader',
          leader: id,
          version: expect.stringMatching(/^3\./),
          revision: number64,
          raftTerm: number64,
          raftIndex: number64,
          raftAppliedIndex: number64,
          sizeBytes: number64,
          usedBytes: number64,
          quotaBytes: null,
          errors: [],
        },
      ],
    });
    expect(await json(['member', 'list'])).toEqual({
      members: [
        {
          id,
          name: 'm0',
          peerUrls: [expect.any(String)],
          clientUrls: [etcd.url],
          isLearner: false,
        },
      ],
    });
    expect(await json(['version'])).toEqual({
      version: expect.stringMatching(/^\d+\.\d+\.\d+/),
      node: process.version,
      outputVersion: 1,
    });
  });

  test('locks, services and queues', async () => {
    expect(await json(['queue', 'push', 'jq', 'hello', '--key', 'k'])).toEqual({
      id: expect.any(String),
      duplicate: false,
    });
    expect(await json(['queue', 'push', 'jq', 'hello', '--key', 'k'])).toMatchObject({
      duplicate: true,
    });
    expect(await json(['queue', 'peek', 'jq'])).toEqual({
      jobs: [
        {
          id: expect.any(String),
          payload: 'hello',
          attempts: 0,
          pushedAt: expect.stringMatching(/Z$/),
          lastError: null,
        },
      ],
    });
    expect(await json(['queue', 'stats', 'jq'])).toEqual({
      queue: 'jq',
      ready: 1,
      delayed: 0,
      active: 0,
      dead: 0,
      workers: 0,
    });
    expect(await json(['queue', 'dead', 'list', 'jq'])).toEqual({ jobs: [] });

    const nothing = await run(['locks', 'show', 'nobody', '-o', 'json']);
    expect(nothing.exitCode).toBe(3);
    expect(JSON.parse(nothing.stdout)).toEqual({
      name: 'nobody',
      holder: null,
      waiters: [],
      revision: number64,
    });
    const none = await run(['services', 'nobody', '-o', 'json']);
    expect(none.exitCode).toBe(3);
    expect(JSON.parse(none.stdout)).toEqual({
      service: 'nobody',
      instances: [],
      revision: number64,
    });
  });

  test('keys and values that are not UTF-8 have their bytes beside the text', async () => {
    const client = await connect(etcd.endpoint);
    await client.kv.put(Buffer.from([0x62, 0xff]), Buffer.from([0xfe]));
    await client.close();
    expect(await json(['kv', 'get', 'b', '--prefix'])).toMatchObject({
      kvs: [{ key: 'b\ufffd', keyBase64: 'Yv8=', value: '\ufffd', valueBase64: '/g==' }],
    });
    const raw = new RunningCli(['kv', 'get', 'b', '--prefix', '-o', 'raw'], {
      environment: { CONCLAVE_ENDPOINTS: etcd.endpoint },
    });
    await raw.finished;
    expect(Buffer.from(raw.stdout, 'latin1')).toEqual(Buffer.from([0xfe, 0x0a]));
  });
});

describe('exit codes', () => {
  test.each([
    [['kv', 'get', 'missing'], 3],
    [['lease', 'revoke', 'abc'], 3],
    [['kv', 'del', 'missing'], 0],
    [['compact', '999999'], 1],
    [['kv', 'get', 'k', '--rev', '999999'], 1],
    [['kv', 'get', 'k', '--endpoints', '127.0.0.1:1', '--timeout', '200ms'], 5],
    [['status', '--endpoints', '127.0.0.1:1', '--timeout', '200ms'], 5],
  ])('%j: %d', async (argv, exitCode) => {
    expect((await run(argv)).exitCode).toBe(exitCode);
  });

  test('without a server it says so soon: 5', async () => {
    const startedAt = performance.now();
    const { exitCode, stdout, stderr } = await run([
      'kv',
      'get',
      'k',
      '--endpoints',
      '127.0.0.1:1',
    ]);
    expect(performance.now() - startedAt).toBeLessThan(6_000);
    expect({ exitCode, stdout }).toEqual({ exitCode: 5, stdout: '' });
    expect(stderr).toMatch(/^error: No endpoint of 127\.0\.0\.1:1 .* refused or lost\n/);
    expect(stderr).toMatch(/\n {2}code: UNREACHABLE\n$/);
  });

  test('a condition that does not hold is 3, and what the other branch did is printed', async () => {
    const { exitCode, stdout } = await run(['kv', 'txn', '-o', 'json'], {
      input: 'mod("absent") > "0"\n\n\nput absent x\n',
    });
    expect(exitCode).toBe(3);
    expect(JSON.parse(stdout)).toMatchObject({ succeeded: false, responses: [{ put: {} }] });
  });

  test.each([
    [['kv', 'gett', 'x'], /unknown command 'gett'[\s\S]*Did you mean get\?/],
    [['kv', 'get', 'x', '--prefx'], /unknown option '--prefx'[\s\S]*Did you mean --prefix\?/],
    [['kv', 'get'], /KEY is missing/],
    [['kv', 'get', 'x', '-o', 'xml'], /'xml'.*json, jsonl, yaml/],
    [
      ['kv', 'get', 'x', '--limit', '1.5'],
      /cannot use '1.5' as --limit: it must be a whole number/,
    ],
    [['kv', 'get', 'x', '--rev', '-1'], /--rev/],
    [['kv', 'del', '--all'], /--yes/],
    [['lease', 'grant', '60'], /cannot use '60' as TTL: it must be a duration.*did you mean 60s\?/],
    [['lease', 'revoke', 'xyz'], /hexadecimal/],
    [['kv', 'get', 'x', '--endpoints', 'a:1', '--directory', 'd'], /exclude each other/],
    [['kv', 'txn'], /stdin, which is empty/],
    [['lock', 'x'], /command is missing/],
    [['lock', 'x', '--ttl', '9s', '--grace', '4s', '--', 'true'], /--grace.*a third of --ttl/],
    [['lock', 'x', '--ttl', '0s', '--', 'true'], /--ttl: it must be more than 0/],
    [['lock', 'x', '-o', 'yaml', '--', 'true'], /'yaml' as --output: it must be json/],
    [['lock', 'x', '--namespace', 'y', '--', 'true'], /see 'conclave lock --help'/],
    [['lock', '--', 'true'], /NAME is missing/],
    [['elect', '--', 'true', 'x'], /NAME is missing/],
    [['work', '--', 'true'], /QUEUE is missing[\s\S]*see 'conclave work --help'/],
    [['lock', 'x', '--endpoints', 'a b', '--', 'true'], /'endpoints'/],
    [['kv', 'get', 'x', '--endpoints', ''], /'' as --endpoints/],
    [['kv', 'get', 'x', '--directory', ''], /'' as --directory/],
    [['kv', 'get', 'x', '--limit'], /--limit needs its value: --limit <n>/],
    [['kv', 'put'], /KEY is missing\nsee 'conclave kv put --help'/],
    [['snapshot', 'restore', 'x'], /--data-dir <dir> is missing/],
    [
      ['snapshot', 'restore', 'x', '--data-dir', 'y', '--initial-cluster', 'a'],
      /name=http:\/\/host:port of every member.*'a' is not/,
    ],
    [
      ['snapshot', 'restore', 'x', '--data-dir', 'y', '--initial-cluster', 'a=http://b:1'],
      /--name 'default': it must be one of --initial-cluster, a/,
    ],
    [['queue', 'dead', 'discard', 'q', '--all'], /every dead job of 'q': add --yes/],
    [['queue', 'dead', 'replay', 'q'], /ids, --error TEXT or --all/],
    [[], /Usage: conclave/],
  ])('%j is wrong usage: 2, explained on stderr alone', async (argv, message) => {
    const { exitCode, stdout, stderr } = await run(argv);
    expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  test.each([
    [['kv', 'put', 'k', 'v', '--lease', 'abc', '-o', 'json'], 3, 'LEASE_NOT_FOUND'],
    [['-ojson', 'kv', 'put', 'k', 'v', '--lease', 'abc'], 3, 'LEASE_NOT_FOUND'],
    [['kv', 'get', '--output=json'], 2, 'INVALID_ARGUMENT'],
    [['kv', 'get', 'k', '--nope', '-o', 'jsonl'], 2, 'INVALID_ARGUMENT'],
    [['kv', '-o', 'json'], 2, 'INVALID_ARGUMENT'],
    [['lease', 'grant', '0', '-o', 'json'], 2, 'INVALID_ARGUMENT'],
    [['lock', 'x', '-o', 'json', '--', '/absent/command'], 127, 'COMMAND_NOT_FOUND'],
  ])('with JSON wanted, the error is an object: %j', async (argv, exitCode, code) => {
    const result = await run(argv);
    expect(result).toMatchObject({ exitCode, stdout: '' });
    const lines = result.stderr.trimEnd().split('\n');
    expect(lines).toHaveLength(1);
    const { error } = JSON.parse(lines[0] ?? '');
    expect(error).toMatchObject({ code, outcome: 'not-applied', causes: expect.any(Array) });
    expect(error.message).toMatch(/^\S.*\S$/s);
    expect(error).toHaveProperty('remedy');
  });

  test('an error is a sentence, a remedy and a code', async () => {
    const { stderr } = await run(['kv', 'put', 'k', 'v', '--lease', 'abc']);
    expect(stderr).toMatch(/^error: .+\n( {2}(cause|remedy): .+\n)* {2}code: LEASE_NOT_FOUND\n$/);
  });
});

test('piped output is bare tab-separated lines, without colours', async () => {
  await run(['kv', 'put', 'tsv', 'a\tb\nc\x1b[31m']);
  const { stdout } = await run(['kv', 'get', 'tsv']);
  expect(stdout).toMatch(/^tsv\ta\\tb\\nc\\u\{1b\}\[31m\t\d+\t1\t\n$/);
});

test('endpoints: the flag wins over variables, CONCLAVE_ENDPOINTS over ETCDCTL_ENDPOINTS', async () => {
  const nowhere = '127.0.0.1:1';
  const found = { exitCode: 3 };
  const argv = ['kv', 'get', 'missing'];
  const wrong = { CONCLAVE_ENDPOINTS: nowhere, ETCDCTL_ENDPOINTS: nowhere };
  expect(await run(['--endpoints', etcd.endpoint, ...argv], { environment: wrong })).toMatchObject(
    found,
  );
  expect(
    await run(argv, { environment: { ...wrong, CONCLAVE_ENDPOINTS: etcd.endpoint } }),
  ).toMatchObject(found);
  expect(
    await run(argv, { environment: { CONCLAVE_ENDPOINTS: '', ETCDCTL_ENDPOINTS: etcd.endpoint } }),
  ).toMatchObject(found);
});

describe('watch', () => {
  test('prints events as they come and ends after so many', async () => {
    const first = (await json(['kv', 'put', 'w/a', '1'])) as { revision: string };
    await run(['kv', 'del', 'w/a']);
    const { exitCode, stdout } = await run([
      ...['kv', 'watch', 'w/', '--prefix', '--rev', first.revision],
      ...['--prev-kv', '--count', '2', '-o', 'jsonl'],
    ]);
    expect(exitCode).toBe(0);
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toMatchObject([
      { type: 'put', revision: first.revision, key: 'w/a', value: '1', previous: null },
      { type: 'delete', key: 'w/a', previous: { value: '1' } },
    ]);
  });

  test('--timeout ends it: 3 when --count was not reached', async () => {
    const { exitCode } = await run(['kv', 'watch', 'quiet', '--count', '1', '--timeout', '100ms']);
    expect(exitCode).toBe(3);
  });

  test('--exec runs a command for each event, in order', async () => {
    const first = (await json(['kv', 'put', 'x/a', '1'])) as { revision: string };
    await run(['kv', 'put', 'x/b', '2']);
    // The command inherits the real stdout.
    const { stdout } = await cli(
      [
        ...['kv', 'watch', 'x/', '--prefix', '--rev', first.revision, '--count', '2'],
        ...['--exec', 'echo "$CONCLAVE_EVENT $CONCLAVE_KEY $ETCD_WATCH_VALUE $(wc -l)"'],
      ],
      { environment: { CONCLAVE_ENDPOINTS: etcd.endpoint } },
    );
    expect(stdout.replaceAll(/ +/g, ' ')).toBe('put x/a "1" 1\nput x/b "2" 1\n');
  });

  test('a signal ends it as signals do', async () => {
    const watching = new RunningCli(['kv', 'watch', 's/', '--prefix', '--rev', '1'], {
      environment: { CONCLAVE_ENDPOINTS: etcd.endpoint },
    });
    await run(['kv', 'put', 's/a', '1']);
    await eventually('the event', () => watching.stdout.includes('s/a'));
    watching.kill('SIGTERM');
    expect((await watching.finished).exitCode).toBe(143);
  });
});

test('a snapshot is whole, private, and checked', async () => {
  const path = join(directory, 'backup.db');
  const { sha256, sizeBytes } = (await json(['snapshot', 'save', path])) as Record<string, string>;
  const content = readFileSync(path);
  expect(`${content.length}`).toBe(sizeBytes);
  expect(createHash('sha256').update(content.subarray(0, -32)).digest('hex')).toBe(sha256);
});

test('compaction', async () => {
  const { revision } = (await json(['kv', 'put', 'c', '1'])) as { revision: string };
  expect(await json(['compact', revision, '--physical'])).toEqual({ revision });
  expect((await run(['kv', 'get', 'c', '--rev', '1'])).stderr).toContain('COMPACTED');
});

test('output to a reader that has gone ends quietly', async () => {
  await run(['kv', 'put', 'p', 'x'.repeat(200_000)]);
  const reader = new RunningCli(['kv', 'get', 'p'], {
    environment: { CONCLAVE_ENDPOINTS: etcd.endpoint },
  });
  reader.child.stdout?.destroy();
  const { exitCode, stderr } = await reader.finished;
  expect({ exitCode, stderr }).toEqual({ exitCode: 141, stderr: '' });
});

test('every verb and every group has help with an example', async () => {
  const { catalog } = await import('../../recipes/cli/catalog.ts');
  const { buildProgram } = await import('../../recipes/cli/program.ts');
  const verbs: string[][] = [];
  const visit = (entries: typeof catalog, path: readonly string[]): void => {
    for (const entry of entries) {
      verbs.push([...path, entry.name]);
      if ('verbs' in entry) visit(entry.verbs, [...path, entry.name]);
    }
  };
  visit(catalog, []);
  expect(verbs.length).toBeGreaterThan(20);
  for (const verb of verbs) {
    let help = '';
    const program = buildProgram().configureOutput({ writeOut: (text) => (help += text) });
    const all = [program, ...descendants(program)];
    for (const command of all) command.configureOutput({ writeOut: (text) => (help += text) });
    await expect(program.parseAsync([...verb, '--help'], { from: 'user' })).rejects.toMatchObject({
      code: 'commander.helpDisplayed',
    });
    expect(help, verb.join(' ')).toMatch(new RegExp(`Usage: conclave ${verb.join(' ')}`));
    expect(help, verb.join(' ')).toMatch(/Examples:\n {2}# .+\n {2}\S/);
  }
});

type Commands = { readonly commands: readonly Commands[] };
function descendants<C extends Commands>(command: C): C[] {
  return command.commands.flatMap((child) => [child as C, ...descendants(child as C)]);
}
