/** Servers whose ports somebody takes between the choice and the start. */
import { createServer } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { freePort } from './ports.ts';
import { TestCluster, TestServer } from './servers.ts';

vi.mock('./ports.ts', async (original) => {
  const ports = await original<typeof import('./ports.ts')>();
  return { ...ports, freePort: vi.fn(ports.freePort) };
});

const cleanups: (() => Promise<unknown> | unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const takenPort = async (): Promise<number> => {
  const port = await freePort();
  const somebody = createServer();
  await new Promise<void>((resolve) => somebody.listen(port, '127.0.0.1', resolve));
  cleanups.push(() => somebody.close());
  return port;
};

test('a server whose port is taken starts on others', async () => {
  const taken = await takenPort();
  vi.mocked(freePort).mockResolvedValueOnce(taken);
  const server = await TestServer.start('conclave');
  cleanups.push(() => server.stop('SIGKILL'));
  expect(server.endpoint).not.toBe(`127.0.0.1:${taken}`);
});

test('so do all members of a cluster', async () => {
  const taken = await takenPort();
  vi.mocked(freePort).mockResolvedValueOnce(taken);
  const cluster = await TestCluster.start('conclave', 3);
  cleanups.push(() => cluster.discard());
  expect(cluster.endpoints).not.toContain(`:${taken}`);
});

test('not so where the caller has chosen them', async () => {
  const ports = { client: await takenPort(), peer: await freePort() };
  const place = { name: 'm0', ports, cluster: `m0=http://127.0.0.1:${ports.peer}` };
  await expect(TestServer.start('conclave', { place })).rejects.toThrow(/another program listens/);
});
