/** Ports for servers that cannot report the one they chose. */
import { createServer } from 'node:net';
import { afterEach, expect, test, vi } from 'vitest';
import { freePort, portsBeside } from './ports.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

test('ports lie beside the ephemeral range, on its longer side', () => {
  expect(portsBeside({ first: 32_768, last: 60_999 })).toEqual({ first: 10_000, last: 32_767 });
  expect(portsBeside({ first: 1_024, last: 20_000 })).toEqual({ first: 20_001, last: 65_535 });
  // Nothing is left.
  expect(portsBeside({ first: 1_024, last: 65_530 })).toEqual({ first: 10_000, last: 65_535 });
});

test('harnesses that run at the same time choose different ports', async () => {
  // Each instance of the module is a harness; all begin their search at the same place.
  vi.spyOn(Math, 'random').mockReturnValue(0.5);
  const chosen: number[] = [];
  for (let harness = 0; harness < 3; harness += 1) {
    vi.resetModules();
    const ports = await import('./ports.ts');
    for (let count = 0; count < 30; count += 1) chosen.push(await ports.freePort());
  }
  expect(new Set(chosen).size).toBe(90);
});

test('a port that somebody listens on is passed over', async () => {
  const first = await freePort();
  // Every second one of more than a harness has at a time.
  const servers = Array.from({ length: 20 }, (_, nth) => {
    const server = createServer();
    server.on('error', () => undefined);
    return server.listen(first + 1 + 2 * nth, '127.0.0.1');
  });
  await vi.waitFor(() => expect(servers.some(({ listening }) => listening)).toBe(true));
  const taken = servers.flatMap((server) => {
    const address = server.address();
    return typeof address === 'object' && address !== null ? [address.port] : [];
  });
  for (let count = 0; count < 20; count += 1) expect(taken).not.toContain(await freePort());
  for (const server of servers) server.close();
});
