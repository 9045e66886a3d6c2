/**
 * A store that goes back to an old snapshot while clients run: a second store, with fewer revisions,
 * takes its place behind the same address. Each is of one member, whatever the run is about: clients
 * know the one address, and what goes back is the same with any number behind it.
 */
import { createConnection, createServer, type Socket } from 'node:net';
import type { Client } from '../../sdk/client.ts';
import { connect } from '../../sdk/connect.ts';
import { startStore } from '../support/store.ts';

export type RewindableStore = AsyncDisposable & {
  /** host:port, before and after. */
  readonly endpoint: string;
  /** The store that clients begin with. */
  readonly before: Client;
  /** What they will find later: write to it what the snapshot holds. */
  readonly after: Client;
  /** Breaks every connection; new ones find the old snapshot. */
  rewind(): void;
};

export const startRewindableStore = async (): Promise<RewindableStore> => {
  const stores = await Promise.all([startStore(1), startStore(1)]);
  const [now, then] = stores;
  const [before, after] = await Promise.all([connect(now.endpoint), connect(then.endpoint)]);
  let target = now.endpoint;
  const sockets = new Set<Socket>();
  const join = (one: Socket, other: Socket) => {
    sockets.add(one);
    one.setNoDelay(true);
    one.on('data', (data) => other.write(data));
    one.on('error', () => other.destroy());
    one.on('close', () => {
      sockets.delete(one);
      other.destroy();
    });
  };
  const listener = createServer((client) => {
    const [host = '127.0.0.1', port = ''] = target.split(':');
    const server = createConnection({ host, port: Number(port) });
    join(client, server);
    join(server, client);
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const address = listener.address();
  if (typeof address !== 'object' || address === null) throw new Error('the proxy has no port');
  const cut = () => {
    for (const socket of [...sockets]) socket.destroy();
  };
  return {
    endpoint: `127.0.0.1:${address.port}`,
    before,
    after,
    rewind: () => {
      target = then.endpoint;
      cut();
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([before.close(), after.close()]);
      listener.close();
      cut();
      await Promise.all(stores.map((store) => store.stop()));
    },
  };
};
