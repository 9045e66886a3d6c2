/** How a hold on a job ends other than by being settled. */
import { ConclaveError } from '../../sdk/errors.ts';

export const passedOn = (id: string) =>
  new ConclaveError('CLAIM_LOST', `The claim on job ${id} ended before it was settled`);

export const timedOut = (id: string) =>
  new ConclaveError('TIMEOUT', `Job ${id} could not be settled in the time given`);

export const overdue = (id: string) =>
  new ConclaveError('CLAIM_LOST', `The claim on job ${id} was not extended in time`);

export const settledBefore = (id: string) =>
  new ConclaveError('RELEASED', `Job ${id} was settled before`);
