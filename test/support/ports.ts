/**
 * Ports for servers that cannot report the one they chose, so that a harness must choose for them.
 *
 * A port that was free a moment ago is not enough: every socket of a running client takes one from
 * the system's ephemeral range, and may take just this one before the server binds it, or while the
 * server is down to be started again. So ports come from outside that range. Harnesses that run at
 * the same time share what is left by blocks: whoever binds the UDP socket of a block's first port
 * has the block. Servers here speak TCP, so that socket is in nobody's way, and the kernel gives the
 * block back when its process ends, however it ends.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

export type PortRange = { readonly first: number; readonly last: number };

const host = '127.0.0.1';
/** Below are the ports of services that a machine may run. */
const lowest = 10_000;
const highest = 65_535;
const blockSize = 20;
/** The defaults of Linux (32768 to 60999), macOS and Windows (49152 to 65535) together. */
const usualEphemeral: PortRange = { first: 32_768, last: highest };
const rangeFile = '/proc/sys/net/ipv4/ip_local_port_range';

/** What the system gives to sockets that ask for no port. */
function ephemeralRange(): PortRange {
  try {
    const [first = Number.NaN, last = Number.NaN] = readFileSync(rangeFile, 'utf8')
      .trim()
      .split(/\s+/)
      .map(Number);
    return first <= last ? { first, last } : usualEphemeral;
  } catch {
    return usualEphemeral;
  }
}

/**
 * The longer of what lies below the ephemeral range and what lies above. A machine that leaves less
 * than a block outside gets all ports: reserved and checked, but not safe from its clients.
 */
export function portsBeside({ first, last }: PortRange): PortRange {
  const below = { first: lowest, last: first - 1 };
  const above = { first: Math.max(lowest, last + 1), last: highest };
  const longer = lengthOf(below) >= lengthOf(above) ? below : above;
  return lengthOf(longer) < blockSize ? { first: lowest, last: highest } : longer;
}

const lengthOf = ({ first, last }: PortRange): number => last - first + 1;

/** Resolves with whether this process has the block that begins there, which it keeps. */
const claim = (firstPort: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.unref();
    socket.once('error', () => {
      socket.close();
      resolve(false);
    });
    socket.bind(firstPort, host, () => resolve(true));
  });

const canListen = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });

/** Claims a block, trying all of them from a random one on. */
async function claimBlock(): Promise<PortRange> {
  const range = portsBeside(ephemeralRange());
  const blocks = Math.floor(lengthOf(range) / blockSize);
  const start = Math.floor(Math.random() * blocks);
  for (let tried = 0; tried < blocks; tried += 1) {
    const first = range.first + ((start + tried) % blocks) * blockSize;
    if (await claim(first)) return { first, last: first + blockSize - 1 };
  }
  throw new Error(`other harnesses have all ports from ${range.first} to ${range.last}`);
}

let block: PortRange = { first: 1, last: 0 };
let choosing: Promise<unknown> = Promise.resolve();

/** A port that nobody listens on and that no harness gets again while this process runs. */
export function freePort(): Promise<number> {
  const chosen = choosing.then(nextPort);
  choosing = chosen.catch(() => undefined);
  return chosen;
}

async function nextPort(): Promise<number> {
  for (;;) {
    if (block.first > block.last) block = await claimBlock();
    const port = block.first;
    block = { ...block, first: port + 1 };
    if (await canListen(port)) return port;
  }
}
