/** The checks that drive a server with the npm package etcd3. */
import assert from 'node:assert/strict';
import {
  Etcd3,
  EtcdLeaseInvalidError,
  EtcdLockFailedError,
  type IKeyValue,
  type Watcher,
} from 'etcd3';
import { waitFor, within } from '../../support/wait.ts';
import type { ClientCheck } from './etcdctl.ts';

async function withClient(endpoint: string, use: (client: Etcd3) => Promise<void>): Promise<void> {
  const client = new Etcd3({ hosts: `http://${endpoint}` });
  try {
    await use(client);
  } finally {
    client.close();
  }
}

/** Everything a watcher was given, as `put key value` and `delete key`. */
function record(watcher: Watcher): string[] {
  const seen: string[] = [];
  watcher.on('put', (kv: IKeyValue) => seen.push(`put ${kv.key} ${kv.value}`));
  watcher.on('delete', (kv: IKeyValue) => seen.push(`delete ${kv.key}`));
  return seen;
}

const check = (name: string, use: (client: Etcd3) => Promise<void>): ClientCheck => ({
  name,
  run: async (endpoint) => await withClient(endpoint, use),
});

export const etcd3Checks: readonly ClientCheck[] = [
  check('put, get, getAll and delete', async (client) => {
    await client.put('n/a').value('1');
    await client.put('n/b').value(2);
    assert.equal(await client.get('n/a').string(), '1');
    assert.equal(await client.get('n/b').number(), 2);
    assert.equal(await client.get('n/none').string(), null);
    assert.deepEqual(await client.getAll().prefix('n/').strings(), { 'n/a': '1', 'n/b': '2' });
    assert.deepEqual(await client.getAll().prefix('n/').sort('Key', 'Descend').limit(1).keys(), [
      'n/b',
    ]);
    assert.equal(await client.getAll().prefix('n/').count(), 2);
    const deleted = await client.delete().prefix('n/').getPrevious();
    assert.deepEqual(
      deleted.map((kv) => kv.value.toString()),
      ['1', '2'],
    );
  }),
  check('transactions', async (client) => {
    await client.put('t').value('1');
    const attempt = async (): Promise<boolean> =>
      (
        await client
          .if('t', 'Value', '==', '1')
          .and('absent', 'Create', '==', 0)
          .then(client.put('t').value('2'), client.get('t'))
          .else(client.get('t'))
          .commit()
      ).succeeded;
    assert.equal(await attempt(), true);
    assert.equal(await attempt(), false);
    assert.equal(await client.get('t').string(), '2');
  }),
  check('namespaces', async (client) => {
    const space = client.namespace('space/');
    await space.put('k').value('v');
    assert.equal(await client.get('space/k').string(), 'v');
    assert.deepEqual(await space.getAll().keys(), ['k']);
  }),
  check('leases keep their keys and take them along', async (client) => {
    const lease = client.lease(60);
    await lease.put('l').value('v');
    const id = await lease.grant();
    const left = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
    assert.equal(left.grantedTTL, '60');
    assert.deepEqual(left.keys.map(String), ['l']);
    await lease.keepaliveOnce();
    await lease.revoke();
    assert.equal(await client.get('l').string(), null);
  }),
  check('a lease that is gone is reported to its owner', async (client) => {
    const lease = client.lease(60);
    const id = await lease.grant();
    const lost = new Promise<unknown>((resolve) => lease.on('lost', resolve));
    await client.leaseClient.leaseRevoke({ ID: id });
    await lease.keepaliveOnce().catch((error: unknown) => {
      assert.ok(error instanceof EtcdLeaseInvalidError);
    });
    await within(lost, 5_000, 'the lost event');
  }),
  check('watchers of keys and prefixes, from now and from the past', async (client) => {
    const prefix = await client.watch().prefix('w/').create();
    const single = await client.watch().key('w/a').create();
    const seenPrefix = record(prefix);
    const seenSingle = record(single);
    const { header } = await client.put('w/a').value('1');
    await client.put('w/b').value('2');
    await client.delete().key('w/a');
    const expected = ['put w/a 1', 'put w/b 2', 'delete w/a'];
    await waitFor('the events', () => (seenPrefix.length >= 3 ? true : undefined));
    assert.deepEqual(seenPrefix, expected);
    await waitFor('the events', () => (seenSingle.length >= 2 ? true : undefined));
    assert.deepEqual(seenSingle, [expected[0], expected[2]]);
    const past = await client.watch().prefix('w/').startRevision(header.revision).create();
    const seenPast = record(past);
    await waitFor('the past', () => (seenPast.length >= 3 ? true : undefined));
    assert.deepEqual(seenPast, expected);
    await Promise.all([prefix.cancel(), single.cancel(), past.cancel()]);
  }),
  check('a cancelled watcher is silent and the others go on', async (client) => {
    const stays = await client.watch().key('c').create();
    const goes = await client.watch().key('c').create();
    const seenStaying = record(stays);
    const seenGoing = record(goes);
    await goes.cancel();
    await client.put('c').value('1');
    await waitFor('the event', () => (seenStaying.length >= 1 ? true : undefined));
    assert.deepEqual(seenGoing, []);
    await stays.cancel();
  }),
  check('locks exclude each other', async (client) => {
    const first = client.lock('gate').ttl(10);
    await first.acquire();
    await assert.rejects(client.lock('gate').ttl(10).acquire(), EtcdLockFailedError);
    await first.release();
    let inside = 0;
    await client.lock('gate').do(async () => {
      inside += 1;
    });
    assert.equal(inside, 1);
  }),
  check('elections: campaign, proclaim, observe and resign', async (client) => {
    const office = client.election('office', 10);
    const first = office.campaign('ada');
    await within(first.wait(), 5_000, 'the first term');
    const observer = await client.election('office', 10).observe();
    assert.equal(observer.leader(), 'ada');
    const second = client.election('office', 10).campaign('grace');
    // Listened for from here on: the client tells of it once, perhaps before `resign` returns.
    const secondTerm = second.wait();
    await first.proclaim('ada again');
    await waitFor('the new value', () => (observer.leader() === 'ada again' ? true : undefined));
    await first.resign();
    await within(secondTerm, 5_000, 'the second term');
    await waitFor('the new leader', () => (observer.leader() === 'grace' ? true : undefined));
    await second.resign();
    await observer.cancel();
  }),
  check('software transactional memory under contention', async (client) => {
    await client.put('stm').value('0');
    const increments = Array.from({ length: 10 }, async () => {
      await client.stm({ retries: 200 }).transact(async (transaction) => {
        const value = Number(await transaction.get('stm').string());
        await transaction.put('stm').value(value + 1);
      });
    });
    await Promise.all(increments);
    assert.equal(await client.get('stm').number(), 10);
  }),
  check('cluster and maintenance', async (client) => {
    const { members } = await client.cluster.memberList({});
    assert.equal(members.length, 1);
    const status = await client.maintenance.status();
    assert.equal(status.leader, status.header.member_id);
    assert.deepEqual((await client.maintenance.alarm({ action: 'Get' })).alarms, []);
  }),
];
