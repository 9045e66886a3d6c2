/** What the services are made from. */
import type { Logger } from 'pino';
import type { Random } from '../ports.ts';
import type { Admission } from './admission.ts';
import type { Member } from './member.ts';

export type ServiceContext = {
  readonly member: Member;
  readonly admission: Admission;
  readonly random: Random;
  readonly logger: Logger;
  /** Operations in one transaction. */
  readonly maxTxnOps: number;
};
