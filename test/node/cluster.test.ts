import { rm, writeFile } from 'node:fs/promises';
import { status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { restoreMember } from '../../server/index.ts';
import { ReplaceRequest } from '../../server/wire/conclave/v1/membership.ts';
import { refusal, unary } from '../rpc/calls.ts';
import { MemberCluster } from '../support/member-cluster.ts';
import { waitFor } from '../support/wait.ts';
import { rawClient, type WireClient } from '../support/wire-client.ts';

const bytes = (text: string): Buffer => Buffer.from(text);
const put = (client: WireClient, key: string, value = key) =>
  client.kv.put({ key: bytes(key), value: bytes(value) });
const get = async (client: WireClient, key: string): Promise<string | undefined> => {
  const { kvs } = await client.kv.range({ key: bytes(key) });
  return kvs[0]?.value.toString();
};

describe('three members', () => {
  test('serve reads and writes wherever they are asked', async () => {
    await using cluster = await MemberCluster.start();
    for (const writer of cluster.names) {
      await put(cluster.client(writer), writer);
      for (const reader of cluster.names)
        expect(await get(cluster.client(reader), writer)).toBe(writer);
    }
    await cluster.agreement();
    const [first] = await cluster.followers();
    const { members } = await cluster
      .client(first ?? '')
      .cluster.memberList({ linearizable: true });
    expect(members.map(({ name }) => name).sort()).toEqual(['a', 'b', 'c']);
    await waitFor('all to introduce themselves', async () => {
      const list = await cluster.client('a').cluster.memberList({ linearizable: true });
      return list.members.every(({ clientURLs }) => clientURLs.length > 0) || undefined;
    });
  });

  test('renew, describe and list leases on followers', async () => {
    await using cluster = await MemberCluster.start();
    const [name = ''] = await cluster.followers();
    const { kv, lease } = cluster.client(name);
    const { ID } = await lease.leaseGrant({ TTL: 60n });
    await kv.put({ key: bytes('k'), value: bytes('v'), lease: ID });
    expect(await lease.leaseTimeToLive({ ID, keys: true })).toMatchObject({
      grantedTTL: 60n,
      keys: [bytes('k')],
    });
    expect((await lease.leaseLeases({})).leases).toEqual([{ ID }]);
    for await (const { TTL } of lease.leaseKeepAlive(once({ ID }))) expect(TTL).toBe(60n);
    for await (const { TTL } of lease.leaseKeepAlive(once({ ID: 5n }))) expect(TTL).toBe(0n);
    await lease.leaseRevoke({ ID });
    expect((await lease.leaseTimeToLive({ ID })).TTL).toBe(-1n);
    expect(await get(cluster.client(name), 'k')).toBeUndefined();
  });

  test('tell watchers on one of them what was written on another', async () => {
    await using cluster = await MemberCluster.start();
    const [one = '', other = ''] = await cluster.followers();
    const abort = new AbortController();
    const stream = cluster.client(one).watch.watch(
      once({
        requestUnion: {
          $case: 'createRequest' as const,
          value: { key: bytes('w'), prevKv: true },
        },
      }),
      { signal: abort.signal },
    );
    const seen: (string | undefined)[] = [];
    for await (const { created, events } of stream) {
      if (created) await put(cluster.client(other), 'w', '1');
      for (const { kv } of events) seen.push(kv?.value.toString());
      if (seen.length === 1) await put(cluster.client(other), 'w', '2');
      if (seen.length === 2) break;
    }
    expect(seen).toEqual(['1', '2']);
  });

  test('move leadership where they are told to, and only from the leader', async () => {
    await using cluster = await MemberCluster.start();
    const leader = await cluster.leader();
    const [heir = '', other = ''] = await cluster.followers();
    const targetID = cluster.member(heir).memberId;
    expect(await refusal(cluster.client(other).maintenance.moveLeader({ targetID }))).toEqual({
      code: status.FAILED_PRECONDITION,
      details: 'etcdserver: not leader',
    });
    await cluster.client(leader).maintenance.moveLeader({ targetID });
    expect(await cluster.leader()).toBe(heir);
    await put(cluster.client(leader), 'after');
  });

  test('lose nothing and refuse nothing when the leader closes', async () => {
    await using cluster = await MemberCluster.start();
    const leader = await cluster.leader();
    const [name = '', other = ''] = await cluster.followers();
    let stopping = false;
    let written = 0;
    const writing = (async () => {
      while (!stopping) await put(cluster.client(name), `k${written++}`);
    })();
    await expect.poll(() => written, { timeout: 10_000 }).toBeGreaterThan(20);
    const before = written;
    await cluster.stop(leader);
    await expect.poll(() => written, { timeout: 10_000 }).toBeGreaterThan(before + 20);
    stopping = true;
    await writing;
    const { count } = await cluster.client(other).kv.range({
      key: bytes('k'),
      rangeEnd: bytes('l'),
      countOnly: true,
    });
    expect(count).toBe(BigInt(written));
  });

  test('answer no leader while too few of them are there, and serve again when they come back', async () => {
    await using cluster = await MemberCluster.prepare();
    const lonely = await cluster.launch('a');
    const { kv, maintenance } = cluster.client('a');
    expect((await maintenance.status({})).errors).toContain('etcdserver: no leader');
    expect(await refusal(kv.put({ key: bytes('k') }))).toEqual({
      code: status.UNAVAILABLE,
      details: 'etcdserver: no leader',
    });
    const url = `http://${lonely.endpoints[0]}`;
    const health = await fetch(`${url}/health`);
    expect(health.status).toBe(503);
    expect(await health.json()).toEqual({ health: 'false', reason: 'RAFT NO LEADER' });
    expect((await fetch(`${url}/readyz`)).status).toBe(503);
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    await cluster.launch('b');
    await cluster.leader();
    await put(cluster.client('a'), 'k');
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    expect(await (await fetch(`${url}/metrics`)).text()).toMatch(/^etcd_server_has_leader 1$/m);
  });
});

describe('members that come', () => {
  test('get the log, are promoted, and vote', async () => {
    await using cluster = await MemberCluster.start({ names: ['a'] });
    await put(cluster.client('a'), 'before');
    const id = await cluster.join('b');
    const b = cluster.client('b');
    await waitFor('the learner', async () => {
      const { isLearner, raftAppliedIndex } = await b.maintenance.status({});
      return (isLearner && raftAppliedIndex > 0n) || undefined;
    });
    const { kvs } = await b.kv.range({ key: bytes('before'), serializable: true });
    expect(kvs).toHaveLength(1);
    expect((await refusal(b.kv.range({ key: bytes('before') }))).details).toBe(
      'etcdserver: rpc not supported for learner',
    );
    await waitFor('the promotion', () =>
      cluster
        .client('a')
        .cluster.memberPromote({ ID: id })
        .then(() => true),
    );
    await waitFor('word of it at the learner', async () => {
      const { isLearner } = await b.maintenance.status({});
      return !isLearner || undefined;
    });
    await put(b, 'after');
    // Both are needed for a majority now: the promoted one takes part.
    await cluster.agreement();
  });

  test('tell what goes between them, under the names that etcd has for it', async () => {
    await using cluster = await MemberCluster.start();
    const [follower = ''] = await cluster.followers();
    const leader = await cluster.leader();
    const hex = (name: string) => cluster.member(name).memberId.toString(16);
    const counts = async (name: string) => {
      const text = await (
        await fetch(`http://${cluster.member(name).endpoints[0]}/metrics`)
      ).text();
      return (metric: string): number =>
        Number(
          text
            .split('\n')
            .find((line) => line.startsWith(`${metric} `))
            ?.split(' ')[1],
        );
    };
    const sent = `etcd_network_peer_sent_bytes_total{To="${hex(follower)}"}`;
    const received = `etcd_network_peer_received_bytes_total{From="${hex(leader)}"}`;
    const before = {
      sent: (await counts(leader))(sent),
      received: (await counts(follower))(received),
    };
    const value = Buffer.alloc(100_000);
    await cluster.client(leader).kv.put({ key: bytes('large'), value });
    await cluster.client(follower).kv.range({ key: bytes('large') });
    expect((await counts(leader))(sent) - before.sent).toBeGreaterThan(100_000);
    expect((await counts(leader))(sent) - before.sent).toBeLessThan(200_000);
    expect((await counts(follower))(received) - before.received).toBeGreaterThan(100_000);
    const to = `{To="${hex(follower)}"}`;
    const ofLeader = await waitFor('a round trip', async () => {
      const ofLeader = await counts(leader);
      const trips = ofLeader(`etcd_network_peer_round_trip_time_seconds_count${to}`);
      return trips > 0 ? ofLeader : undefined;
    });
    expect(ofLeader(`etcd_network_peer_sent_failures_total${to}`)).toBeGreaterThanOrEqual(0);
    const peers = `{Local="${hex(leader)}",Remote="${hex(follower)}"}`;
    expect(ofLeader(`etcd_network_active_peers${peers}`)).toBe(1);
  });

  test('get a copy of the state when the log does not reach back', async () => {
    await using cluster = await MemberCluster.start({ member: { catchUpEntries: 10 } });
    const keys = Array.from({ length: 60 }, (_, index) => `k${index}`);
    await Promise.all(keys.map((key) => put(cluster.client('a'), key)));
    // Released at the next tick, and only then is the beginning gone.
    const applied = (await cluster.client('a').maintenance.status({})).raftAppliedIndex;
    await put(cluster.client('a'), 'last');
    await cluster.join('d');
    const d = cluster.client('d');
    await waitFor('the copy', async () => {
      const { raftAppliedIndex } = await d.maintenance.status({});
      return raftAppliedIndex > applied || undefined;
    });
    const { count } = await d.kv.range({
      key: bytes('k'),
      rangeEnd: bytes('l'),
      countOnly: true,
      serializable: true,
    });
    expect(count).toBe(60n);
    const metrics = await fetch(`http://${cluster.member('d').endpoints[0]}/metrics`);
    expect(await metrics.text()).toMatch(/^etcd_network_snapshot_receive_success\{.*\} 1$/m);
  });

  test('take the place of another one in one step', async () => {
    await using cluster = await MemberCluster.start();
    const [old = ''] = await cluster.followers();
    const oldId = cluster.member(old).memberId;
    const learnerId = await cluster.join('d');
    const expelled = cluster.member(old).expelled;
    const [asked = ''] = (await cluster.followers()).filter((name) => name !== old && name !== 'd');
    const raw = rawClient(cluster.member(asked).endpoints[0] ?? '');
    const request = Buffer.from(ReplaceRequest.encode({ oldId, learnerId }).finish());
    await waitFor('the replacement', () =>
      unary(raw, '/conclave.v1.Membership/Replace', request).then(() => true),
    );
    raw.close();
    await expelled;
    await cluster.stop(old);
    const { members } = await cluster.client('d').cluster.memberList({ linearizable: true });
    expect(members.map(({ ID }) => ID)).toContain(learnerId);
    expect(members.map(({ ID }) => ID)).not.toContain(oldId);
    expect(members).toHaveLength(3);
    await put(cluster.client('d'), 'k');
    await cluster.agreement();
  });
});

test('one member gets a second voter, and says so although it decides nothing without it', async () => {
  await using cluster = await MemberCluster.start({ names: ['a'] });
  const { members, member } = await cluster.client('a').cluster.memberAdd({
    peerURLs: ['http://127.0.0.1:1'],
    isLearner: false,
  });
  expect(members).toHaveLength(2);
  expect(member?.name).toBe('');
});

describe('members that go', () => {
  test.each(['follower', 'leader'])('the %s is removed, and the others go on', async (which) => {
    // Members that started a moment ago do not count as steady for the check.
    await using cluster = await MemberCluster.start({ member: { strictReconfigCheck: false } });
    const [follower = '', other = ''] = await cluster.followers();
    const gone = which === 'leader' ? await cluster.leader() : follower;
    const ID = cluster.member(gone).memberId;
    const { expelled } = cluster.member(gone);
    await cluster.client(other).cluster.memberRemove({ ID });
    expect(await expelled).toMatch(/removed/);
    await cluster.stop(gone);
    await cluster.leader();
    const { members } = await cluster.client(other).cluster.memberList({ linearizable: true });
    expect(members).toHaveLength(2);
    await put(cluster.client(other), 'k');
    await cluster.agreement();
  });

  test('the check of etcd keeps a quorum', async () => {
    await using cluster = await MemberCluster.start();
    const [one = '', two = ''] = await cluster.followers();
    const leader = await cluster.leader();
    const ID = cluster.member(one).memberId;
    await cluster.stop(two);
    expect(await refusal(cluster.client(leader).cluster.memberRemove({ ID }))).toEqual({
      code: status.UNAVAILABLE,
      details: 'etcdserver: unhealthy cluster',
    });
  });
});

describe('members with data', () => {
  test('come back one by one and all at once', async () => {
    await using cluster = await MemberCluster.start({ durable: true });
    await put(cluster.client('a'), 'k', '1');
    for (const name of cluster.names) {
      await cluster.stop(name);
      await cluster.launch(name);
      await cluster.leader();
    }
    await put(cluster.client('b'), 'k', '2');
    await Promise.all(cluster.names.map((name) => cluster.stop(name)));
    await Promise.all(cluster.names.map((name) => cluster.launch(name)));
    await cluster.leader();
    expect(await get(cluster.client('c'), 'k')).toBe('2');
    await cluster.agreement();
  });

  test('begin a new cluster from one snapshot', async () => {
    await using cluster = await MemberCluster.start({ durable: true });
    await put(cluster.client('a'), 'k', 'kept');
    const blobs: Uint8Array[] = [];
    for await (const { blob } of cluster.client('b').maintenance.snapshot({})) blobs.push(blob);
    const file = `${cluster.directory('a')}.snapshot`;
    await writeFile(file, Buffer.concat(blobs));
    await Promise.all(cluster.names.map((name) => cluster.stop(name)));
    const clusterToken = 'restored';
    const initialCluster = [...cluster.places.values()];
    for (const name of cluster.names) {
      const directory = cluster.directory(name);
      await rm(directory, { recursive: true });
      await restoreMember({ file, directory, name, clusterToken, initialCluster });
    }
    await Promise.all(cluster.names.map((name) => cluster.launch(name, { clusterToken })));
    await cluster.leader();
    for (const name of cluster.names) expect(await get(cluster.client(name), 'k')).toBe('kept');
    await put(cluster.client('c'), 'k', 'new');
    await cluster.agreement();
  });

  test('are refused when they lost it', async () => {
    await using cluster = await MemberCluster.start({ durable: true });
    const [name = ''] = await cluster.followers();
    await put(cluster.client(name), 'k');
    await waitFor('it to be known', async () => {
      const { members } = await cluster.client(name).cluster.memberList({ linearizable: true });
      return members.every(({ clientURLs }) => clientURLs.length > 0) || undefined;
    });
    await cluster.stop(name);
    await rm(cluster.directory(name), { recursive: true });
    await expect(cluster.launch(name)).rejects.toMatchObject({
      code: 'wiped',
      message: expect.stringContaining('conclave member replace'),
    });
  });

  test("are refused under another member's name", async () => {
    await using cluster = await MemberCluster.start({ durable: true });
    await cluster.stop('b');
    await cluster.stop('c');
    await expect(cluster.launch('b', { directory: cluster.directory('c') })).rejects.toMatchObject({
      code: 'other-member',
    });
  });
});

async function* once<T>(value: T): AsyncGenerator<T> {
  yield value;
}
