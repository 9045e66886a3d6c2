/** All rows, in the order of the table. */
import type { Row } from './row.ts';
import { campaign } from './rows/campaign.ts';
import { eventLoop } from './rows/event-loop.ts';
import { get } from './rows/get.ts';
import { goGet, goPut } from './rows/go.ts';
import { handOver } from './rows/hand-over.ts';
import { keepAlive } from './rows/keep-alive.ts';
import { largeStore } from './rows/large-store.ts';
import { lock } from './rows/lock.ts';
import { put } from './rows/put.ts';
import { queue } from './rows/queue.ts';
import { queueOne } from './rows/queue-one.ts';
import { start } from './rows/start.ts';
import { txn } from './rows/txn.ts';
import { watchClosed } from './rows/watch-closed.ts';
import { watchPaced } from './rows/watch-paced.ts';

export const rows: readonly Row[] = [
  put,
  get,
  txn,
  lock,
  handOver,
  queue,
  queueOne,
  watchClosed,
  watchPaced,
  keepAlive,
  campaign,
  goPut,
  goGet,
  start,
  largeStore,
  eventLoop,
];
