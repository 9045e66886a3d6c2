import { afterEach, expect, test } from 'vitest';
import { fetchMembers } from '../../server/transport/join.ts';
import { PeerListener } from '../../server/transport/peer-listener.ts';
import type { MembersReply } from '../../server/transport/transport.ts';
import { CLUSTER, Ends, type RigOptions } from './rig.ts';

const ends = new Ends();
afterEach(() => ends.close());
const open = (id: bigint, options?: RigOptions) => ends.open(id, options);

test('anybody is told the members', async () => {
  const reply: MembersReply = {
    clusterId: CLUSTER,
    memberId: 1n,
    index: 2 ** 40,
    members: [
      {
        id: 2n ** 64n - 1n,
        name: 'a',
        peerUrls: ['http://a:1', 'http://b:2'],
        clientUrls: ['http://c:3'],
        isLearner: true,
        incarnation: 2n ** 63n - 1n,
      },
      { id: 3n, name: '', peerUrls: [], clientUrls: [], isLearner: false, incarnation: undefined },
    ],
    removed: [7n, 8n],
  };
  const one = await open(1n, { handlers: { members: () => reply } });
  expect(await fetchMembers(one.url, AbortSignal.timeout(5_000))).toEqual(reply);
});

test('who asks for the members gets what went wrong', async () => {
  const one = await open(1n, {
    handlers: {
      members: () => {
        throw new Error('not ready');
      },
    },
  });
  const signal = AbortSignal.timeout(5_000);
  await expect(fetchMembers(one.url, signal)).rejects.toThrow('not ready');
  await expect(fetchMembers('http://127.0.0.1:1', signal)).rejects.toThrow('ECONNREFUSED');
  await expect(fetchMembers('https://a:1', signal)).rejects.toThrow(TypeError);
  const silent = await PeerListener.open(['http://127.0.0.1:0']);
  ends.add(() => silent.close());
  silent.serve(() => {});
  await expect(fetchMembers(silent.urls[0] ?? '', AbortSignal.timeout(50))).rejects.toMatchObject({
    name: 'TimeoutError',
  });
});

test('a listener says which URL it cannot use, and which port is taken', async () => {
  for (const url of ['https://127.0.0.1:0', 'unix:/tmp/x', 'http://a:1/path', 'nonsense']) {
    await expect(PeerListener.open([url])).rejects.toThrow(`Cannot use "${url}" as a peer URL`);
  }
  const one = await open(1n);
  await expect(PeerListener.open(['http://127.0.0.1:0', one.url])).rejects.toMatchObject({
    code: 'EADDRINUSE',
  });
});
