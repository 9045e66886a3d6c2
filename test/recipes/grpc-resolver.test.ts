/** Plain clients and servers of grpc-js that find each other through the registry. */
import * as grpc from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from 'vitest';
import { repetitions, roundOf } from '../../recipes/discovery/grpc-endpoints.ts';
import {
  type GrpcResolverOptions,
  registerGrpcResolver,
} from '../../recipes/discovery/grpc-resolver.ts';
import type { Instance } from '../../recipes/discovery/instance.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { RecipeSession } from '../../recipes/session.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

const path = '/test.Who/Are';
const asIs = (value: Buffer): Buffer => value;
const definition: grpc.ServiceDefinition = {
  Are: {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  },
};

/** Answers with its name. */
async function startServer(name: string): Promise<{ address: string; server: grpc.Server }> {
  const server = new grpc.Server();
  server.addService(definition, {
    Are: (_call: unknown, callback: grpc.sendUnaryData<Buffer>) =>
      callback(null, Buffer.from(name)),
  });
  const port = await new Promise<number>((resolve, reject) => {
    const credentials = grpc.ServerCredentials.createInsecure();
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { address: `127.0.0.1:${port}`, server };
}

describe.skipIf(storeMissing)('the resolver for gRPC', () => {
  const world = useWorld();
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });

  const sessionOf = ({ session }: Actor) => new RecipeSession(session, noMetrics);
  let schemes = 0;
  const resolve = (session: RecipeSession, options: GrpcResolverOptions = {}) => {
    schemes += 1;
    const scheme = `conclave-${schemes}`;
    const resolver = registerGrpcResolver(session, { scheme, ...options });
    ends.push(() => resolver.close());
    return { resolver, scheme };
  };
  const open = (target: string, options: grpc.ChannelOptions = {}) => {
    const client = new grpc.Client(target, grpc.credentials.createInsecure(), options);
    ends.push(() => client.close());
    return client;
  };
  const serve = async (name: string) => {
    const { address, server } = await startServer(name);
    ends.push(() => server.forceShutdown());
    return { address, server };
  };
  const ask = (client: grpc.Client, timeoutMs = 5_000): Promise<string> =>
    new Promise((onAnswer, onError) => {
      const deadline = new Date(Date.now() + timeoutMs);
      client.makeUnaryRequest(path, asIs, asIs, Buffer.alloc(0), { deadline }, (error, answer) =>
        error ? onError(error) : onAnswer(`${answer}`),
      );
    });
  const askMany = async (client: grpc.Client, times: number): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (let nth = 0; nth < times; nth++) {
      const who = await ask(client);
      counts[who] = (counts[who] ?? 0) + 1;
    }
    return counts;
  };
  const all = async (client: grpc.Client, names: readonly string[]) =>
    eventually(`calls to ${names}`, async () => {
      const counts = await askMany(client, 6);
      return Object.keys(counts).sort().join() === names.join();
    });

  test('a plain client finds both servers in turn, and only the other one when one is killed', async () => {
    const session = sessionOf(await world.actor({ ttl: '2s' }));
    const service = world.name('who');
    const [a, b] = [await serve('a'), await serve('b')];
    const registrar = sessionOf(await world.actor()).discovery(service);
    await registrar.register({ id: 'a', address: a.address });
    const second = await registrar.register({ id: 'b', address: b.address });
    const { scheme } = resolve(session);
    const client = open(`${scheme}:///${service}`);
    await all(client, ['a', 'b']);
    expect(await askMany(client, 10)).toEqual({ a: 5, b: 5 });
    // Killed: its connections break before its entry is gone.
    b.server.forceShutdown();
    await eventually('only the other', async () => {
      const counts = await askMany(client, 6).catch(() => ({}));
      return JSON.stringify(counts) === '{"a":6}';
    });
    await second.deregister();
    expect(await askMany(client, 6)).toEqual({ a: 6 });
    // And a new one is called without anybody asking for it.
    const c = await serve('c');
    await registrar.register({ id: 'c', address: c.address });
    await all(client, ['a', 'c']);
  });

  test('it also works with a service config of the client', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('who');
    for (const id of ['a', 'b']) {
      const { address } = await serve(id);
      await session.discovery(service).register({ id, address });
    }
    const { scheme } = resolve(session);
    const config = { loadBalancingConfig: [{ pick_first: {} }] };
    const client = open(`${scheme}:///${service}`, {
      'grpc.service_config': JSON.stringify(config),
    });
    const counts = await askMany(client, 6);
    expect(Object.values(counts)).toEqual([6]);
  });

  test('draining, unhealthy and damped instances get no new calls; weights are heeded', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('who');
    const discovery = session.discovery(service);
    for (const [id, weight] of [
      ['a', 1],
      ['b', 3],
    ] as const) {
      const { address } = await serve(id);
      await discovery.register({ id, address, weight });
    }
    const c = await discovery.register({ id: 'c', address: (await serve('c')).address });
    const { scheme } = resolve(session);
    const client = open(`${scheme}:///${service}`);
    await all(client, ['a', 'b', 'c']);
    await c.drain();
    await all(client, ['a', 'b']);
    expect(await askMany(client, 8)).toEqual({ a: 2, b: 6 });
    const fair = resolve(session, { weights: false });
    const other = open(`${fair.scheme}:///${service}`);
    await all(other, ['a', 'b']);
    expect(await askMany(other, 8)).toEqual({ a: 4, b: 4 });
  });

  test('instances of the own zone are called, others when there are none', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('who');
    const discovery = session.discovery(service);
    const near = await serve('near');
    const far = await serve('far');
    const first = await discovery.register({ id: 'n', address: near.address, zone: 'eu/eu-1' });
    await discovery.register({ id: 'f', address: far.address, zone: 'us/us-1' });
    const { scheme } = resolve(session, { pool: { locality: 'eu/eu-2' } });
    const client = open(`${scheme}:///${service}`);
    expect(await askMany(client, 6)).toEqual({ near: 6 });
    await first.drain();
    await all(client, ['far']);
  });

  test('channels keep what they know while the store is away', async () => {
    const actor = await world.actor();
    const session = sessionOf(actor);
    const service = world.name('who');
    const { address } = await serve('a');
    await session.discovery(service).register({ address });
    const { scheme, resolver } = resolve(session, { pool: { recheck: 40 } });
    const client = open(`${scheme}:///${service}`);
    expect(await ask(client)).toBe('a');
    actor.faults.plan = () => 'refuse';
    await eventually('staleness', () => resolver.pools.get(service)?.stale === true);
    expect(await askMany(client, 4)).toEqual({ a: 4 });
  });

  test('calls fail by name when nobody serves, and as soon as the patience is over', async () => {
    const actor = await world.actor();
    const service = world.name('nobody');
    const { scheme } = resolve(sessionOf(actor));
    await expect(ask(open(`${scheme}:///${service}`))).rejects.toMatchObject({
      code: grpc.status.UNAVAILABLE,
      details: expect.stringContaining(`no instance of '${service}' is up`),
    });
    actor.faults.plan = () => 'refuse';
    const hasty = resolve(sessionOf(actor), { patience: 50 });
    const client = open(`${hasty.scheme}:///${world.name('unknown')}`);
    await expect(ask(client)).rejects.toMatchObject({
      code: grpc.status.UNAVAILABLE,
      details: expect.stringContaining('the store has not told'),
    });
    actor.faults.heal();
  });

  test('pools live as long as channels use them, and are shared', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('who');
    const { address } = await serve('a');
    await session.discovery(service).register({ address });
    const { scheme, resolver } = resolve(session);
    const [one, two] = [open(`${scheme}:///${service}`), open(`${scheme}:${service}`)];
    expect([await ask(one), await ask(two)]).toEqual(['a', 'a']);
    const pool = resolver.pools.get(service);
    expect(resolver.pools.size).toBe(1);
    one.close();
    expect(resolver.pools.get(service)).toBe(pool);
    two.close();
    expect(resolver.pools.size).toBe(0);
    await expect(pool?.acquire()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('after closing, channels keep what they know, and new ones fail with the reason', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('who');
    const { address } = await serve('a');
    await session.discovery(service).register({ address });
    const { scheme, resolver } = resolve(session);
    const client = open(`${scheme}:///${service}`);
    expect(await ask(client)).toBe('a');
    await resolver.close();
    await resolver[Symbol.asyncDispose]();
    expect(resolver.isOpen).toBe(false);
    expect(await ask(client)).toBe('a');
    const late = open(`${scheme}:///${service}`, { 'grpc.initial_reconnect_backoff_ms': 10 });
    await expect(ask(late)).rejects.toMatchObject({
      code: grpc.status.UNAVAILABLE,
      details: expect.stringContaining('no open session'),
    });
    // The place is free again, and those that found nobody there find the next one.
    const again = registerGrpcResolver(session, { scheme });
    expect(await ask(open(`${scheme}:///${service}`))).toBe('a');
    await eventually('the late one', async () => (await ask(late).catch(() => '')) === 'a');
    await again.close();
  });

  test('sessions are told apart by authority; what is wrong is refused by name', async () => {
    const session = sessionOf(await world.actor());
    const { scheme } = resolve(session);
    resolve(session, { scheme, authority: 'staging' });
    expect(() => registerGrpcResolver(session, { scheme })).toThrow(/close that first/);
    expect(() => registerGrpcResolver(session, { scheme: 'dns' })).toThrow(/'scheme'/);
    expect(() => registerGrpcResolver(session, { authority: 'a/b' })).toThrow(/'authority'/);
    expect(() => registerGrpcResolver(session, { patience: -1 })).toThrow(/'patience'/);
    const pool = { recheck: 0 };
    expect(() => registerGrpcResolver(session, { pool })).toThrow(/'recheck'/);
    expect(() => open(`${scheme}:///${'x'.repeat(201)}`)).toThrow(/'service'/);
    const service = world.name('staged');
    const { address } = await serve('staged');
    await session.discovery(service).register({ address });
    expect(await ask(open(`${scheme}://staging/${service}`))).toBe('staged');
  });

  test.each(['1.2.3.4.5', '42', 'größe x/y', 'a%2Fb'])(
    'a service may be named %s',
    async (service) => {
      const session = sessionOf(await world.actor());
      const { address } = await serve('a');
      const registration = await session.discovery(service).register({ address });
      const { scheme } = resolve(session);
      expect(await ask(open(`${scheme}:///${encodeURIComponent(service)}`))).toBe('a');
      await registration.deregister();
    },
  );

  test('addresses that gRPC cannot use are left out, and named', async () => {
    const session = sessionOf(await world.actor());
    const service = world.name('odd');
    await session.discovery(service).register({ address: 'nowhere' });
    const { scheme } = resolve(session);
    await expect(ask(open(`${scheme}:///${service}`))).rejects.toMatchObject({
      details: expect.stringContaining('not host:port: nowhere'),
    });
  });
});

const instances = (...weights: number[]): Instance<null>[] =>
  weights.map((weight, index) => ({
    id: String(index),
    address: `x:${index}`,
    meta: null,
    weight,
    zone: undefined,
    status: 'up',
    reason: undefined,
    registeredAt: new Date(0),
    statusSince: new Date(0),
    createRevision: 1n,
    modRevision: 1n,
  }));

test('a round lists instances by their part of the work, spread over the round', () => {
  const [a, b] = [instances(1, 3), instances(1)];
  const round = (share: number, rest: number) =>
    roundOf(
      {
        isPanicking: false,
        tiers: [
          { share, instances: a },
          { share: rest, instances: b },
        ],
      },
      true,
    )
      .map(({ id }) => id)
      .join('');
  expect(round(1, 0)).toBe('1011');
  const even = roundOf({ isPanicking: false, tiers: [{ share: 1, instances: a }] }, false);
  expect(even.map(({ id }) => id)).toEqual(['0', '1']);
  expect(roundOf({ isPanicking: false, tiers: [] }, true)).toEqual([]);
});

test('parts become small whole numbers, and nobody is left out', () => {
  expect(repetitions([0.5, 0.5])).toEqual([1, 1]);
  expect(repetitions([2, 3])).toEqual([2, 3]);
  expect(repetitions([1, 2.5])).toEqual([2, 5]);
  const [least, most] = repetitions([0.0001, 1]);
  expect(least).toBe(1);
  expect(most).toBeGreaterThan(100);
  expect(most).toBeLessThan(128);
  expect(repetitions(Array.from({ length: 300 }, () => 1))).toHaveLength(300);
});
