/**
 * Runs the directed cases: the same script against a fresh etcd and a fresh conclave, what they
 * observed compared.
 */
import { type SystemName, TestServer } from '../../support/servers.ts';
import { within } from '../../support/wait.ts';
import { connectWire } from '../../support/wire-client.ts';
import type { Suite } from '../suite.ts';
import { type DirectedCase, directedCases } from './directed-cases.ts';
import { firstDifference, type Plain, plain } from './normalise.ts';

const caseTimeoutMs = 30_000;

export async function directedChecks(suite: Suite, subject: SystemName): Promise<void> {
  const feasible = directedCases.filter((one) => subject !== 'etcd' || one.crashesEtcd !== true);
  for (const one of feasible)
    await suite.check(`directed: ${one.name}`, async () => {
      const [expected, actual] = await Promise.all([
        one.intended !== undefined && subject !== 'etcd'
          ? Promise.resolve(one.intended)
          : observe('etcd', one),
        observe(subject, one),
      ]);
      const found = firstDifference(expected, actual);
      if (found !== undefined)
        throw new Error(
          `differs at ${found.path}\n  expected: ${JSON.stringify(expected)}\n  ${subject}: ${JSON.stringify(actual)}`,
        );
    });
}

async function observe(system: SystemName, one: DirectedCase): Promise<Plain> {
  const server = await TestServer.start(system, { flags: one.flags ?? [] });
  const client = connectWire(server.endpoint);
  try {
    return plain(await within(one.run(client), caseTimeoutMs, `${one.name} on ${system}`));
  } catch (error) {
    throw new Error(`${system}:\n${server.process.logTail(8)}`, { cause: error });
  } finally {
    client.close();
    await server.stop('SIGKILL');
  }
}
