/**
 * The keep-alive thread: renews leases over a connection of its own, whatever the event loop of the
 * program does, as long as that has turned lately.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from './clock.ts';
import { Connection } from './connection.ts';
import { overGrpc } from './grpc-opener.ts';
import { LeaseCells, PulseCell } from './keep-alive-cells.ts';
import type { ThreadData, ThreadNews, ThreadOrder } from './keep-alive-protocol.ts';
import { systemRandom } from './random.ts';
import { Renewal } from './renewal.ts';
import { Deadline } from './session-deadline.ts';

const port = parentPort;
if (port === null) throw new Error('this file is for a thread of its own');

const { connection: settings, pulse: pulseMemory } = workerData as ThreadData;
const clock = systemClock;
const pulse = new PulseCell(pulseMemory);
const { endpoints, retry, requestTimeoutMs } = settings;
const connection = new Connection({
  endpoints,
  openTransport: overGrpc(settings, clock),
  clock,
  retry,
  requestTimeoutMs,
  random: systemRandom,
  logger: undefined,
});
const renewals = new Map<number, Renewal>();

const tell = (news: ThreadNews | 'ready'): void => port.postMessage(news);

const keep = (order: Extract<ThreadOrder, { type: 'keep' }>): void => {
  const { number, lease, ttlMs, ageMs, lockDelayMs, maxBlockMs } = order;
  const cells = new LeaseCells(order.cells);
  const since = { monotonicMs: clock.monotonicMs() - ageMs, wallMs: clock.wallMs() - ageMs };
  const renewal = new Renewal({
    connection,
    clock,
    lease,
    lockDelayMs,
    deadline: new Deadline(clock, since, ttlMs),
    mayRenew: () => pulse.ageMs < maxBlockMs,
    onRenewed: (sentAt) => {
      cells.renewed(clock, sentAt);
      tell({ number });
    },
    onFailed: (error) => {
      cells.condition = 'failing';
      tell({ number, failure: error && { code: error.code, message: error.message } });
    },
    onOver: (why) => {
      cells.condition = why;
      renewals.delete(number);
      tell({ number });
    },
  });
  renewals.set(number, renewal);
  void renewal.run('at once');
};

port.on('message', (order: ThreadOrder) => {
  if (order.type === 'keep') keep(order);
  else {
    renewals.get(order.number)?.stop();
    renewals.delete(order.number);
  }
});

tell('ready');
