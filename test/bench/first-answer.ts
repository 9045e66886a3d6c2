/** How long a server takes from its launch to its first acknowledged put. */
import type { SystemName, TestServer } from '../support/servers.ts';
import { waitFor, within } from '../support/wait.ts';
import { connectWire } from '../support/wire-client.ts';
import { listens } from './servers/processes.ts';
import type { BenchSystem } from './systems.ts';

const startTimeoutMs = 120_000;
const putTimeoutMs = 60_000;
const pollMs = 1;

/** Both speak etcd's API and take etcd's flags, so one client measures them alike. */
export function systemNameOf({ server }: BenchSystem): SystemName {
  if (server.name === 'conclave' || server.name === 'etcd') return server.name;
  throw new Error(`${server.name} does not speak etcd's API`);
}

/** Launches the server and puts a key as soon as its port is open. */
export async function launchAndPut(server: TestServer): Promise<{ readonly elapsedMs: number }> {
  const startMs = performance.now();
  server.launch();
  const port = Number(server.endpoint.split(':')[1]);
  // No gRPC client yet: it would wait for its back-off after a refused connection.
  await waitFor(`port ${port}`, () => listens(port), {
    timeoutMs: startTimeoutMs,
    intervalMs: pollMs,
  });
  const client = connectWire(server.endpoint);
  try {
    const key = Buffer.from('first');
    await waitFor(
      'the first put',
      () => within(client.kv.put({ key, value: key }), putTimeoutMs, 'a put').then(() => true),
      { timeoutMs: startTimeoutMs, intervalMs: pollMs },
    );
    return { elapsedMs: performance.now() - startMs };
  } finally {
    client.close();
  }
}
