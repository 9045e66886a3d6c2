/**
 * Failing disks: one system call of the server fails with EIO, injected by strace. The member must
 * say why and end at once, because what the kernel does with the data of a failed flush is unknown;
 * everything it had acknowledged must be there when it comes back.
 */
import { SeededRandom } from '../../support/generators/random.ts';
import { commandExists } from '../../support/process.ts';
import { type SystemName, TestServer } from '../../support/servers.ts';
import { waitFor, within } from '../../support/wait.ts';
import { connectWire } from '../../support/wire-client.ts';
import { Skip, type Suite } from '../suite.ts';
import { Load } from './load.ts';
import { Verification } from './verification.ts';

const clients = 16;
const endTimeoutMs = 20_000;
/**
 * Calls by which data reaches a disk, and which of them fails at the latest. The log flushes as it
 * writes; explicit flushes are LMDB's, about one a second.
 */
const faults = [
  { name: 'a failed write', calls: 'pwrite64,pwritev,pwritev2', latest: 40 },
  { name: 'a failed flush', calls: 'fdatasync,fsync,sync_file_range,msync', latest: 6 },
] as const;

export async function ioErrors(
  suite: Suite,
  system: SystemName,
  seed: number,
  rounds: number,
): Promise<void> {
  const random = new SeededRandom(seed);
  for (let round = 1; round <= rounds; round++) {
    const fault = faults[round % faults.length] ?? faults[0];
    await suite.check(`I/O error ${round}: ${fault.name}`, async () => {
      if (!commandExists('strace')) throw new Skip('strace is not installed');
      await oneError(system, fault, random);
    });
  }
}

async function oneError(
  system: SystemName,
  { calls, latest }: (typeof faults)[number],
  random: SeededRandom,
): Promise<void> {
  const server = await TestServer.start(system);
  const load = new Load(random.below(2 ** 32));
  const verification = new Verification(load, 1n);
  try {
    await failUnderLoad(server, load, calls, random.between(2, latest));
    server.launch();
    await server.ready();
    const client = connectWire(server.endpoint);
    try {
      await verification.check(client);
    } finally {
      client.close();
    }
  } finally {
    await server.stop('SIGKILL');
  }
}

/** Attaches the tracer to the running server, so that the fault meets load and not the start. */
async function failUnderLoad(
  server: TestServer,
  load: Load,
  calls: string,
  nth: number,
): Promise<void> {
  const client = connectWire(server.endpoint);
  try {
    load.start(client, clients);
    await waitFor(
      'enough acknowledged operations',
      () => (load.acknowledged >= 50 ? true : undefined),
      { timeoutMs: 20_000, intervalMs: 2 },
    );
    const tracer = server.attach([
      'strace',
      ...['-f', '-qq', '-e', `trace=${calls}`],
      ...['-e', `inject=${calls}:error=EIO:when=${nth}+`],
    ]);
    try {
      const exit = await within(server.process.exited, endTimeoutMs, 'the end of the server');
      await load.stop();
      const log = server.process.log();
      if (exit.code === 0) throw new Error('the server ended as if all were well');
      if (!/EIO|input\/output error/i.test(log))
        throw new Error(`the log does not name the error:\n${server.process.logTail()}`);
    } catch (error) {
      throw new Error(`tracer: ${tracer.logTail(4)}`, { cause: error });
    } finally {
      await tracer.kill('SIGKILL');
    }
  } finally {
    client.close();
  }
}
