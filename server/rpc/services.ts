/** What the services are made from. */
import type { Logger } from 'pino';
import type { Clock, Random, Timers } from '../ports.ts';
import type { Member } from './member.ts';
import type { Writes } from './writes.ts';

export type ServiceContext = {
  readonly member: Member;
  readonly writes: Writes;
  readonly random: Random;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Operations in one transaction. */
  readonly maxTxnOps: number;
};
