/** A claim on a job of the group's queue, as a member of the group sees it: one delivery. */

import { isConclaveError } from '../../sdk/errors.ts';
import type { CallOptions } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { measureHold } from '../common/measured-hold.ts';
import { onAbort } from '../common/signals.ts';
import type { Claim, NackOptions } from '../queue/claim.ts';
import type { Dispatched } from './dispatched.ts';
import type { GroupDelivery, GroupEvent } from './topic-events.ts';

/**
 * Measures the delivery from now on.
 *
 * @param onOver called once, when it is settled or lost
 * @throws ConclaveError CODEC
 */
export function deliver<T>(
  context: RecipeContext,
  name: string,
  claim: Claim<Dispatched<T>>,
  onOver: () => void,
): GroupEvent<T> {
  const { metrics, session } = context;
  const { clock } = session.client;
  const measured = { recipe: 'topic', name } as const;
  // First of all: what cannot be read is not delivered, and so never over.
  const content = claim.data;
  const measureEnd = measureHold(metrics, clock, measured);
  if (content.type === 'message') {
    const waitedMs = Math.max(0, clock.wallMs() - content.message.publishedAt.getTime());
    metrics.waited({ ...measured, ms: waitedMs, outcome: 'acquired' });
  }
  let isOver = false;
  let stopListening: () => void = () => undefined;
  const over = () => {
    if (isOver) return;
    isOver = true;
    stopListening();
    measureEnd();
    onOver();
  };
  stopListening = onAbort(claim.signal, () => {
    const { reason } = claim.signal;
    metrics.lost({ ...measured, reason: isConclaveError(reason) ? reason.code : 'CLAIM_LOST' });
    over();
  });
  const settle = async (how: Promise<void>): Promise<void> => {
    await how;
    over();
  };
  const delivery: GroupDelivery = {
    attempt: claim.attempt,
    maxDeliveries: claim.maxAttempts,
    token: claim.token,
    signal: claim.signal,
    ack: (options: CallOptions = {}) => settle(claim.ack(undefined, options)),
    nack: (options: NackOptions = {}) => settle(claim.nack(options)),
    extend: (options: CallOptions = {}) => claim.extend(undefined, options),
    park: (reason: string, options: CallOptions = {}) => settle(claim.dead(reason, options)),
  };
  return { ...delivery, ...content };
}
