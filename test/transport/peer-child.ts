/**
 * A member in a process of its own that answers each heartbeat, for tests that kill, stop or burden
 * it. Arguments: its id, the parent's id and URL, and how many milliseconds it works on each append.
 * Prints its URL, then each thing it is told.
 */
import { createHash } from 'node:crypto';
import type { IncomingSnapshot } from '../../server/storage/transfer.ts';
import { openRig, type Rig } from './rig.ts';

const [id = '', parentId = '', parentUrl = '', workMs = '0'] = process.argv.slice(2);

const print = (line: string) => process.stdout.write(`${line}\n`);
const work = (forMs: number) => {
  const endMs = performance.now() + forMs;
  while (performance.now() < endMs);
};

let rig: Rig | undefined;
let appends = 0;
rig = await openRig(BigInt(id), {
  handlers: {
    reachable: (peer) => print(`reachable ${peer}`),
    unreachable: (peer) => print(`unreachable ${peer} ${Date.now()}`),
    receive: (message) => {
      if (message.kind === 'append') {
        appends += 1;
        work(Number(workMs));
      } else if (message.kind === 'heartbeat') {
        // How far it got, and how much memory it takes, come back with the answer.
        const rssMiB = Math.round(process.memoryUsage.rss() / 2 ** 20);
        rig?.transport.send([
          {
            kind: 'read-index-response',
            from: message.to,
            to: message.from,
            term: 1,
            incarnation: BigInt(rssMiB),
            request: message.context,
            index: appends,
          },
        ]);
      }
    },
    openSnapshot: async (_, announced): Promise<IncomingSnapshot> => {
      const hash = createHash('sha256');
      let offset = 0;
      return {
        get offset() {
          return offset;
        },
        write: async (_at, bytes) => {
          hash.update(bytes);
          offset += bytes.length;
        },
        finish: async () => {
          if (!hash.digest().equals(announced.sha256)) throw new Error('other bytes');
          return {
            index: announced.index,
            term: announced.term,
            sizeBytes: offset,
            content: { kind: 'memory', bytes: Buffer.alloc(0) },
            discard: async () => {},
          };
        },
        suspend: async () => {},
      };
    },
    snapshotReceived: async () => {},
  },
});
rig.transport.setPeers({
  index: 0,
  peers: [{ id: BigInt(parentId), urls: [parentUrl] }],
  removed: [],
});
print(rig.url);
