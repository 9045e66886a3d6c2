import { describe, expect, test } from 'vitest';
import { type ArrivalOptions, arrive } from '../../server/arrival.ts';
import { identityOf } from '../../server/identity.ts';
import type { MembersReply, RosterMember } from '../../server/transport/transport.ts';
import { VirtualTime } from '../support/virtual-time.ts';

const initialCluster = ['a', 'b', 'c'].map((name) => ({ name, peerUrls: [`http://${name}:2380`] }));
const a = identityOf('a', 'token', initialCluster);
const b = identityOf('b', 'token', initialCluster);

const known = (given: Partial<RosterMember> = {}): RosterMember => ({
  id: a.memberId,
  name: 'a',
  peerUrls: ['http://a:2380'],
  clientUrls: [],
  isLearner: false,
  incarnation: undefined,
  ...given,
});
const reply = (
  members: readonly RosterMember[],
  given: Partial<MembersReply> = {},
): MembersReply => ({
  clusterId: a.clusterId,
  memberId: b.memberId,
  index: 1,
  members,
  removed: [],
  ...given,
});

const time = new VirtualTime();

test('a member that was removed ends with the sentence that its directory keeps, asking nobody', async () => {
  const existing = { ...a, removed: 'it was removed' };
  const asked: string[] = [];
  const options: Partial<ArrivalOptions> = {
    existing,
    ask: async (url) => {
      asked.push(url);
      return reply([known()]);
    },
  };
  const refused = { code: 'removed', message: 'it was removed' };
  await expect(arriving({}, options)).rejects.toMatchObject(refused);
  expect(asked).toEqual([]);
});

/** Member `a` arrives; `answers` are those of the others by URL, all of which are down by default. */
const arriving = (
  answers: Readonly<Record<string, MembersReply | (() => MembersReply)>>,
  options: Partial<ArrivalOptions> = {},
) =>
  arrive({
    existing: undefined,
    name: 'a',
    clusterToken: 'token',
    initialCluster,
    initialClusterState: 'new',
    ask: async (url) => {
      const answer = answers[url];
      if (answer === undefined) throw new Error(`nobody listens at ${url}`);
      return typeof answer === 'function' ? answer() : answer;
    },
    clock: time,
    timers: time,
    patienceMs: 1_000,
    ...options,
  });

describe('ids', () => {
  test('all who are given the same list find the same ids, in whatever order', () => {
    const other = identityOf('a', 'token', [...initialCluster].reverse());
    expect(other).toEqual(a);
    expect(b.clusterId).toBe(a.clusterId);
    expect(b.memberId).not.toBe(a.memberId);
  });

  test('lists that differ anywhere make different clusters', () => {
    const moved = initialCluster.map((member) =>
      member.name === 'c' ? { ...member, peerUrls: ['http://elsewhere:2380'] } : member,
    );
    expect(identityOf('a', 'token', moved).clusterId).not.toBe(a.clusterId);
    expect(identityOf('a', 'other', initialCluster).clusterId).not.toBe(a.clusterId);
  });

  test('a member on its own has the ids that it has always had, wherever it is', () => {
    expect(identityOf('default', 'etcd-cluster')).toEqual({
      name: 'default',
      clusterId: 4_619_557_732_108_892_543n,
      memberId: 10_505_350_816_454_292_387n,
    });
    const somewhere = [{ name: 'default', peerUrls: ['http://x:1'] }];
    expect(identityOf('default', 'etcd-cluster', somewhere)).toEqual(
      identityOf('default', 'etcd-cluster'),
    );
  });
});

describe('an empty directory', () => {
  test('founds when nobody is there yet', async () => {
    const { kind, identity, founders } = await arriving({});
    expect({ kind, identity }).toEqual({ kind: 'found', identity: a });
    expect(founders?.map(({ id, name }) => [id, name])).toContainEqual([b.memberId, 'b']);
  });

  test('founds beside others who never met it', async () => {
    const { kind } = await arriving({ 'http://b:2380': reply([known()]) });
    expect(kind).toBe('found');
  });

  test('is refused in the place of one that lived before', async () => {
    const answers = { 'http://c:2380': reply([known({ incarnation: 7n })]) };
    await expect(arriving(answers)).rejects.toMatchObject({
      code: 'wiped',
      message: expect.stringContaining(`conclave member replace ${a.memberId.toString(16)}`),
    });
  });

  test('is refused in the place of one that was removed', async () => {
    const answers = { 'http://c:2380': reply([], { removed: [a.memberId] }) };
    await expect(arriving(answers)).rejects.toMatchObject({ code: 'removed' });
  });

  test('is refused beside members of another cluster', async () => {
    const answers = { 'http://b:2380': reply([], { clusterId: 5n }) };
    await expect(arriving(answers)).rejects.toMatchObject({ code: 'other-cluster' });
  });
});

describe('a member that joins', () => {
  const existing = { initialClusterState: 'existing' } as const;
  const place = known({ id: 77n, name: '' });

  test('takes the place that was made for its addresses', async () => {
    const { kind, identity } = await arriving({ 'http://b:2380': reply([place]) }, existing);
    expect(kind).toBe('join');
    expect(identity).toEqual({ name: 'a', clusterId: a.clusterId, memberId: 77n });
  });

  test('asks until its place is known', async () => {
    let asked = 0;
    const answers = {
      'http://b:2380': () =>
        reply([
          known({ id: b.memberId, name: 'b', peerUrls: ['http://b:2380'] }),
          ...(++asked > 2 ? [place] : []),
        ]),
    };
    const arrival = arriving(answers, existing);
    await time.pass(2_000);
    expect((await arrival).identity.memberId).toBe(77n);
  });

  const refusals: [string, Record<string, MembersReply>, string, string][] = [
    [
      'that nobody added',
      { 'http://b:2380': reply([known({ peerUrls: ['http://x:1'] })]) },
      'not-added',
      'conclave member add a --peer-urls http://a:2380',
    ],
    ['while nobody answers', {}, 'nobody-answers', 'http://b:2380, http://c:2380'],
    [
      'in a place that was taken',
      { 'http://b:2380': reply([known({ id: 77n })]) },
      'wiped',
      'conclave member replace 4d',
    ],
    [
      'in a place whose directory was seen',
      { 'http://b:2380': reply([known({ id: 77n, name: '', incarnation: 3n })]) },
      'wiped',
      'conclave member replace 4d',
    ],
    [
      "under another member's name",
      { 'http://b:2380': reply([place, known({ id: 5n, peerUrls: ['http://x:1'] })]) },
      'name-taken',
      "'a'",
    ],
  ];
  test.each(refusals)('is refused %s', async (_, answers, code, hint) => {
    const arrival = arriving(answers, existing);
    const refused = expect(arrival).rejects.toMatchObject({
      code,
      message: expect.stringContaining(hint),
    });
    await time.pass(2_000);
    await refused;
  });
});

describe('a member with data', () => {
  test('comes back as who it is', async () => {
    const { kind, identity, founders } = await arriving({}, { existing: a });
    expect({ kind, identity }).toEqual({ kind: 'return', identity: a });
    expect(founders).toHaveLength(3);
  });

  test('comes back whatever the flags say that it began with', async () => {
    const existing = { name: 'a', clusterId: 3n, memberId: 4n };
    const alone = { existing, initialCluster: [{ name: 'a', peerUrls: [] }] };
    expect((await arriving({}, alone)).identity).toEqual(existing);
  });

  test("is refused under another member's name", async () => {
    await expect(arriving({}, { existing: b })).rejects.toMatchObject({ code: 'other-member' });
  });

  test('is refused beside members of another cluster', async () => {
    const existing = { name: 'a', clusterId: 3n, memberId: 4n };
    const answers = { 'http://c:2380': reply([known()]) };
    await expect(arriving(answers, { existing })).rejects.toMatchObject({ code: 'other-cluster' });
  });
});
