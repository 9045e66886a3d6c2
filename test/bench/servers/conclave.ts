/** conclave as it is shipped: `conclave serve` with its defaults. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from '../../support/servers.ts';
import { startTestCluster } from './etcd.ts';
import type { Server } from './server.ts';

export const conclaveServer: Server = {
  name: 'conclave',
  title: 'conclave',
  durability: 'on disk on a majority of the members (O_DSYNC) before the answer',
  missing: () => undefined,
  version: () => {
    const { version } = JSON.parse(readFileSync(join(projectRoot, 'package.json'), 'utf8')) as {
      version: string;
    };
    return `${version}${commit()}`;
  },
  start: (options) => startTestCluster('conclave', options),
};

/** Which sources were measured, when they are under version control. */
function commit(): string {
  try {
    const git = ['rev-parse', '--short', 'HEAD'];
    const options = { cwd: projectRoot, stdio: 'pipe', encoding: 'utf8' } as const;
    return ` (${execFileSync('git', git, options).trim()})`;
  } catch {
    return '';
  }
}
