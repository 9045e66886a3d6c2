import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';

const server = new URL('../../server/index.ts', import.meta.url).href;

/** Starts a member on its own in a new process and prints what that has loaded. */
const script = `
  import { createRequire } from 'node:module';
  const { startMember } = await import(${JSON.stringify(server)});
  const member = await startMember({ listenPeerUrls: ['http://127.0.0.1:0'] });
  const files = Object.keys(createRequire(import.meta.url).cache);
  process.stdout.write([...files, ...process.moduleLoadList].join('\\n'));
  process.exit(0);
`;

test('a member that starts does not load what it may never need', () => {
  const flags = ['--import', 'tsx', '--input-type=module', '--eval', script];
  const loaded = execFileSync(process.execPath, flags, { encoding: 'utf8' }).split('\n');
  expect(loaded).toContainEqual(expect.stringMatching(/node_modules\/pino\//));
  for (const needless of [/node_modules\/(@grpc|prom-client)\//, /^NativeModule http2$/]) {
    expect(loaded.filter((name) => needless.test(name))).toEqual([]);
  }
});
