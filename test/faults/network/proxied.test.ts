import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { ProxiedNetwork } from './proxied.ts';

const cleanUp: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const one of cleanUp.splice(0).reverse()) await one();
});

/** This process lives at site 0 and is connected to an echo at site 1. */
async function link(): Promise<{ network: ProxiedNetwork; socket: Socket; heard: () => string }> {
  const network = new ProxiedNetwork();
  cleanUp.push(() => network.close());
  network.occupy(0, process.pid);
  const { peer, advertisedPeer } = await network.site(1);
  const echo = createServer((client) => client.on('error', () => undefined).pipe(client));
  cleanUp.push(() => void echo.close());
  echo.listen(Number(peer.split(':')[1]), '127.0.0.1');
  await once(echo, 'listening');
  const socket = connect({ host: '127.0.0.1', port: Number(advertisedPeer.split(':')[1]) });
  cleanUp.push(() => void socket.destroy());
  let text = '';
  socket.on('data', (data) => {
    text += data.toString();
  });
  await once(socket, 'connect');
  return { network, socket, heard: () => text };
}

test('a link carries both directions', async () => {
  const { socket, heard } = await link();
  socket.write('one');
  await expect.poll(heard).toBe('one');
});

for (const [name, from, to] of [
  ['what is sent', 0, 1],
  ['what is answered', 1, 0],
] as const) {
  test(`a cut holds back ${name} until the link heals`, async () => {
    const { network, socket, heard } = await link();
    socket.write('one ');
    await expect.poll(heard).toBe('one ');
    await network.cut(from, to);
    socket.write('two');
    // The other direction of another link shows that bytes had the time to come through.
    const other = await link();
    other.socket.write('meanwhile');
    await expect.poll(other.heard).toBe('meanwhile');
    expect(heard()).toBe('one ');
    expect(await network.lost()).toBe(1);
    await network.heal();
    await expect.poll(heard).toBe('one two');
  });
}

test('a cut of other links changes nothing', async () => {
  const { network, socket, heard } = await link();
  await network.cut(2, 1);
  socket.write('one');
  await expect.poll(heard).toBe('one');
});

test('a connection that is opened while its link is cut comes through afterwards', async () => {
  const { network } = await link();
  await network.cut(0, 1);
  const { advertisedPeer } = await network.site(1);
  const late = connect({ host: '127.0.0.1', port: Number(advertisedPeer.split(':')[1]) });
  cleanUp.push(() => void late.destroy());
  let heard = '';
  late.on('data', (data) => {
    heard += data.toString();
  });
  late.write('late');
  await expect.poll(() => network.lost()).toBe(2);
  expect(heard).toBe('');
  await network.heal();
  await expect.poll(() => heard).toBe('late');
});
