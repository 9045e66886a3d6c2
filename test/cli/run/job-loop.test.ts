/** What the loop of a worker owes its commands when the store fails it, against a real etcd. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { JobLoop, type LoopSettings } from '../../../recipes/cli/run/job-loop.ts';
import { SignalRelay } from '../../../recipes/cli/run/signal-relay.ts';
import { closeContext, recipeContext } from '../../../recipes/cli/with-session.ts';
import type { RecipeContext } from '../../../recipes/common/context.ts';
import { Queue } from '../../../recipes/queue/queue.ts';
import { bytes } from '../../../sdk/codec.ts';
import { ConclaveError } from '../../../sdk/errors.ts';
import { type Client, connect } from '../../../sdk/index.ts';
import { type Call, Faults, faultyClient } from '../../support/faulty-kv.ts';
import { TestServer } from '../../support/servers.ts';
import { within } from '../../support/wait.ts';
import { eventually } from './harness.ts';

let etcd: TestServer;
let client: Client;
let directory: string;
let faults: Faults;
let context: RecipeContext;
let relay: SignalRelay;
let stderr = '';

beforeAll(async () => {
  etcd = await TestServer.start('etcd');
  client = await connect(etcd.endpoint);
});
afterAll(async () => {
  await client.close();
  await etcd.stop();
});
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-loop-'));
  faults = new Faults();
  context = recipeContext(await faultyClient(client, faults).session({ ttl: '30s' }));
  relay = new SignalRelay(false);
  stderr = '';
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});
afterEach(async () => {
  vi.restoreAllMocks();
  faults.heal();
  relay[Symbol.dispose]();
  await closeContext(context);
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);

async function push(queue: string, count: number): Promise<Queue<Uint8Array>> {
  const pushing = new Queue<Uint8Array>(context, queue, { codec: bytes() });
  for (let index = 0; index < count; index++) await pushing.push(Buffer.from(`${index}`));
  return pushing;
}

const loop = (queue: string, script: string, settings: Partial<LoopSettings>): JobLoop =>
  new JobLoop(
    context,
    {
      queue,
      command: ['sh', '-c', script, directory],
      policy: { onLost: 'term', graceMs: 100 },
      concurrency: 1,
      visibilityMs: 30_000,
      maxAttempts: 5,
      retryDelayMs: 1_000,
      drain: true,
      ...settings,
    },
    relay,
  );

const kinds = ({ parts }: Call): string =>
  [...new Set(parts?.success.map(({ kind }) => kind))].sort().join();
/** A claim chooses between forms inside of one transaction. */
const isClaim = (call: Call): boolean => kinds(call) === 'txn';
const isAck = (call: Call): boolean => kinds(call) === 'delete';

test('a slot that fails for good lets the command of another finish and be acknowledged', async () => {
  const queue = await push('one-fails', 1);
  let claims = 0;
  let refused = false;
  faults.before = async (call) => {
    if (!isClaim(call)) return;
    claims += 1;
    if (claims === 1) return;
    refused = true;
    throw new ConclaveError('PERMISSION_DENIED', 'not you');
  };
  const script = 'touch $0/started; while [ ! -e $0/go ]; do sleep 0.02; done; touch $0/finished';
  const run = loop('one-fails', script, { concurrency: 2, drain: false }).run();
  let over = false;
  const failed = expect(run.finally(() => (over = true))).rejects.toMatchObject({
    code: 'PERMISSION_DENIED',
  });
  await eventually('the first command', () => existsSync(file('started')));
  await queue.push(Buffer.from('1'));
  await eventually('the second claim', () => refused);
  // Whatever the failure would set off has had a whole exchange with the store to happen.
  await client.kv.get('x');
  await client.kv.get('x');
  expect(over).toBe(false);
  writeFileSync(file('go'), '');
  await failed;
  expect(existsSync(file('finished'))).toBe(true);
  expect(await queue.stats()).toMatchObject({ ready: 1, active: 0 });
});

test('a job that cannot be acknowledged while its claim lasts is left to others', async () => {
  await push('no-ack', 1);
  faults.plan = (call) => (isAck(call) ? 'refuse' : 'pass');
  const run = loop('no-ack', 'exit 0', { visibilityMs: 600 }).run();
  await within(run, 5_000, 'the loop');
  expect(stderr).toMatch(/job .* ended with exit code 0, but: the store did not take that in time/);
  expect(context.session.state).toBe('live');
});
