/**
 * Other people's clients against a server: etcdctl and the npm package etcd3. Every check also runs
 * against etcd itself, which shows that the check is right.
 *
 *   tsx test/slow/clients/main.ts [--systems etcd,conclave] [--only etcdctl|etcd3]
 */
import { parseArgs } from 'node:util';
import { commandExists } from '../../support/process.ts';
import { type SystemName, TestServer } from '../../support/servers.ts';
import { within } from '../../support/wait.ts';
import { Skip, Suite } from '../suite.ts';
import { etcd3Checks } from './etcd3-client.ts';
import { type ClientCheck, etcdctlChecks } from './etcdctl.ts';

const checkTimeoutMs = 150_000;

const { values: options } = parseArgs({
  options: {
    systems: { type: 'string', default: 'etcd,conclave' },
    only: { type: 'string' },
  },
});

const suite = new Suite('clients');
const groups: readonly { name: string; needs?: string; checks: readonly ClientCheck[] }[] = [
  { name: 'etcd3', checks: etcd3Checks },
  { name: 'etcdctl', needs: 'etcdctl', checks: etcdctlChecks },
];

async function runOn(system: SystemName): Promise<void> {
  let server: TestServer | undefined;
  const started = await suite.check(`${system}: starts`, async () => {
    if (system === 'etcd' && !commandExists('etcd')) throw new Skip('etcd is not installed');
    server = await TestServer.start(system);
  });
  if (!started) return;
  for (const { name, needs, checks } of groups) {
    if (options.only !== undefined && options.only !== name) continue;
    for (const one of checks)
      await suite.check(`${system}: ${name}: ${one.name}`, async () => {
        if (needs !== undefined && !commandExists(needs))
          throw new Skip(`${needs} is not installed`);
        await within(one.run(server?.endpoint ?? ''), checkTimeoutMs, one.name);
      });
  }
  await suite.check(`${system}: still runs`, async () => {
    if (server?.process.exit !== undefined)
      throw new Error(`the server ended:\n${server.process.logTail()}`);
    await server?.ready();
  });
  await server?.stop('SIGKILL');
}

for (const system of options.systems.split(',')) {
  if (system !== 'etcd' && system !== 'conclave') throw new Error(`unknown system ${system}`);
  await runOn(system);
}
suite.finish();
