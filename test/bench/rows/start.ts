/** A new server: from the start of its process to its first acknowledged put. */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { TestServer } from '../../support/servers.ts';
import { launchAndPut, systemNameOf } from '../first-answer.ts';
import type { Row } from '../row.ts';

export const start: Row = {
  name: 'start',
  title: 'start to first put',
  driver: 'bench',
  cases: [
    {
      members: 1,
      concurrency: 1,
      figure: 'elapsedMs',
      peers: ['etcd'],
      goal: { kind: 'atMost', limit: 200 },
    },
  ],
  measure: async ({ system }) => {
    const server = await TestServer.prepare(systemNameOf(system));
    try {
      return await launchAndPut(server);
    } finally {
      await server.stop('SIGKILL');
      rmSync(dirname(server.dataDirectory), { recursive: true, force: true });
    }
  },
};
