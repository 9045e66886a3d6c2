import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { Fault } from '../../server/faults.ts';
import { ReplaceRequest, ReplaceResponse } from '../../server/wire/conclave/v1/membership.ts';
import { Face } from '../support/face.ts';
import { refusal, unary } from './calls.ts';

test('members are listed, without a revision', async () => {
  await using face = await Face.open();
  const { cluster } = face.wire();
  const { members, header } = await cluster.memberList({ linearizable: true });
  expect(members).toEqual([
    {
      ID: 0xabcn,
      name: 'fake',
      peerURLs: ['http://127.0.0.1:2380'],
      clientURLs: ['http://127.0.0.1:2379'],
      isLearner: false,
    },
  ]);
  expect(header?.revision).toBe(0n);
});

test('a linearizable list needs a leader, another one does not', async () => {
  await using face = await Face.open();
  face.member.leader = 0n;
  const { cluster } = face.wire();
  expect((await cluster.memberList({})).members).toHaveLength(1);
  expect((await refusal(cluster.memberList({ linearizable: true }))).details).toBe(
    'etcdserver: no leader',
  );
});

test.each([
  { urls: [] },
  { urls: [''] },
  { urls: ['127.0.0.1:2380'] },
  { urls: ['http://127.0.0.1'] },
  { urls: ['http://127.0.0.1:2380/path'] },
  { urls: ['http://127.0.0.1:2380', 'ftp://127.0.0.1:2381'] },
])('peer URLs $urls are refused as etcd refuses them', async ({ urls }) => {
  await using face = await Face.open();
  const { cluster } = face.wire();
  const refused = {
    code: status.INVALID_ARGUMENT,
    details: 'etcdserver: given member URLs are invalid',
  };
  expect(await refusal(cluster.memberAdd({ peerURLs: urls }))).toEqual(refused);
  expect(await refusal(cluster.memberUpdate({ ID: 1n, peerURLs: urls }))).toEqual(refused);
  expect(face.member.membershipChanges).toEqual([]);
});

test.each(['https://127.0.0.1:2380', 'unix:///run/b.sock', 'unixs://b:2380'])(
  'peer URL %s is refused, though etcd takes it: members speak http',
  async (url) => {
    await using face = await Face.open();
    const { cluster } = face.wire();
    const urls = ['http://127.0.0.1:2380', url];
    const refused = {
      code: status.INVALID_ARGUMENT,
      details: `etcdserver: given member URLs are invalid: members speak http with each other, without TLS, so '${url}' must be http://host:port`,
    };
    expect(await refusal(cluster.memberAdd({ peerURLs: urls }))).toEqual(refused);
    expect(await refusal(cluster.memberUpdate({ ID: 1n, peerURLs: urls }))).toEqual(refused);
    expect(face.member.membershipChanges).toEqual([]);
  },
);

test('changes are handed on, and answered with all members', async () => {
  await using face = await Face.open();
  const { cluster } = face.wire();
  const added = await cluster.memberAdd({
    peerURLs: ['http://b:2380', 'http://[::1]:2380'],
    isLearner: true,
  });
  await cluster.memberRemove({ ID: 7n });
  await cluster.memberPromote({ ID: 8n });
  const request = ReplaceRequest.encode({ oldId: 9n, learnerId: 10n }).finish();
  const bytes = await unary(face.raw(), '/conclave.v1.Membership/Replace', Buffer.from(request));
  expect(ReplaceResponse.decode(bytes).members).toHaveLength(1);
  expect(face.member.membershipChanges).toEqual([
    {
      kind: 'member-add',
      id: expect.any(BigInt),
      peerUrls: ['http://[::1]:2380', 'http://b:2380'],
      isLearner: true,
    },
    { kind: 'member-remove', id: 7n },
    { kind: 'member-promote', id: 8n },
    { kind: 'member-replace', learner: 10n, old: 9n },
  ]);
  expect(added.members).toHaveLength(1);
});

test('the added member is picked out of the list', async () => {
  await using face = await Face.open();
  const { member } = face;
  member.changeMembership = async (change) => {
    if (change.kind !== 'member-add') throw new Fault('not-capable');
    const { id, peerUrls, isLearner } = change;
    return [
      ...member.members,
      { id, name: '', peerUrls, clientUrls: [], isLearner, incarnation: 0n },
    ];
  };
  const response = await face.wire().cluster.memberAdd({ peerURLs: ['http://b:2380'] });
  expect(response.member).toMatchObject({ name: '', peerURLs: ['http://b:2380'] });
  expect(response.members).toHaveLength(2);
});

test('what the leader says against a change comes through', async () => {
  await using face = await Face.open();
  face.member.changeMembership = () => Promise.reject(new Fault('unhealthy'));
  const { cluster } = face.wire();
  expect(await refusal(cluster.memberRemove({ ID: 1n }))).toEqual({
    code: status.UNAVAILABLE,
    details: 'etcdserver: unhealthy cluster',
  });
});

test('streams that a learner cannot serve are refused', async () => {
  await using face = await Face.open();
  face.member.isLearner = true;
  const { watch, lease } = face.wire();
  const refused = {
    code: status.FAILED_PRECONDITION,
    details: 'etcdserver: rpc not supported for learner',
  };
  const forever = async function* (): AsyncGenerator<Record<string, never>> {
    await new Promise(() => {});
    yield {};
  };
  const firstOf = (stream: AsyncIterable<unknown>) => stream[Symbol.asyncIterator]().next();
  expect(await refusal(firstOf(watch.watch(forever())))).toEqual(refused);
  expect(await refusal(firstOf(lease.leaseKeepAlive(forever())))).toEqual(refused);
});
