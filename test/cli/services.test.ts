/** What `conclave services` shows of instances, for people and for scripts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Conclave, connect } from '../../recipes/connect.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { cliInProcess } from './cli.ts';

describe.skipIf(storeMissing)('conclave services', () => {
  const { store } = useStore();
  let conclave: Conclave;
  beforeAll(async () => {
    conclave = await connect(store().endpoint);
    const session = await conclave.session();
    const users = session.discovery<{ version: number }>('users');
    const check = () => {
      throw new Error('no disk');
    };
    await users.register({
      id: 'a',
      address: 'x:1',
      meta: { version: 2 },
      zone: 'eu/eu-1',
      health: { check },
    });
    const b = await users.register({ id: 'b', address: 'x:2', meta: { version: 2 }, weight: 3 });
    await b.drain();
  });
  afterAll(() => conclave.close());

  const run = (...argv: string[]) =>
    cliInProcess(['services', 'users', ...argv], {
      environment: { CONCLAVE_ENDPOINTS: store().endpoint },
    });

  test('shows status, zone and why an instance is unhealthy', async () => {
    const { stdout, exitCode } = await run();
    expect(exitCode).toBe(0);
    const [a, b] = stdout.split('\n');
    expect(a).toMatch(/^a\s+x:1\s+unhealthy\s.*eu\/eu-1\s+1\s.*no disk/);
    expect(b).toMatch(/^b\s+x:2\s+draining\s.*\s3\s/);
  });

  test('says the same as JSON', async () => {
    const { stdout } = await run('-o', 'json');
    const time = expect.stringMatching(/^\d{4}-.*Z$/);
    expect(JSON.parse(stdout)).toMatchObject({
      service: 'users',
      instances: [
        {
          id: 'a',
          address: 'x:1',
          status: 'unhealthy',
          statusSince: time,
          registeredAt: time,
          zone: 'eu/eu-1',
          weight: 1,
          meta: { version: 2 },
          reason: 'no disk',
        },
        { id: 'b', status: 'draining', zone: null, weight: 3, reason: null },
      ],
    });
  });
});
