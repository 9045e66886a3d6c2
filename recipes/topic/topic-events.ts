/** What subscribers get. */
import type { CallOptions } from '../../sdk/options.ts';
import type { NackOptions } from '../queue/claim.ts';
import type { Message } from './message.ts';

/** Everything that was published in one revision of the store: never split, in order. */
export type TopicMessages<T> = {
  readonly type: 'messages';
  /** The cursor after this event: a subscription that continues from it gets what follows. */
  readonly revision: bigint;
  readonly messages: readonly Message<T>[];
};

/**
 * Messages that this subscription will not get.
 *
 * - `removed`: retention, or somebody by hand, removed messages of these revisions before they were
 *   read.
 * - `restored`: the store went back to an older state; what it has up to `to` may differ from what
 *   was delivered.
 */
export type TopicGap = {
  readonly type: 'gap';
  readonly from: bigint;
  readonly to: bigint;
  readonly reason: 'removed' | 'restored';
};

export type TopicEvent<T> = TopicMessages<T> | TopicGap;

/** What a durable subscription gets: the position moves by `ack`. */
export type DurableEvent<T> = TopicEvent<T> & {
  /**
   * Aborts when this consumer is not the active one any more, or the subscription was found to be
   * forgotten: CLAIM_LOST or SESSION_LOST.
   */
  readonly signal: AbortSignal;
  /**
   * Moves the subscription's position behind this event, and so behind all before it. Acknowledging
   * what lies before the position has no effect. One exchange; acknowledgements that wait for each
   * other share one.
   *
   * @throws ConclaveError CLAIM_LOST when this consumer is not the active one any more or the
   *   subscription was forgotten, SESSION_LOST, RELEASED when it has left; `outcome` is 'unknown' if
   *   the position may have moved
   */
  ack(options?: Pick<CallOptions, 'signal'>): Promise<void>;
};

/** One delivery to one member of a group, until it is settled or its deadline passes. */
export type GroupDelivery = {
  /** Which delivery of this message it is: 1 for the first. */
  readonly attempt: number;
  readonly maxDeliveries: number;
  /** Fencing token: rises with each delivery of the message. */
  readonly token: bigint;
  /** Aborts when the delivery is lost: CLAIM_LOST, SESSION_LOST. */
  readonly signal: AbortSignal;
  /**
   * Settles the message for the group, once.
   *
   * @throws ConclaveError CLAIM_LOST when the deadline passed or another member has it, SESSION_LOST;
   *   RELEASED when it was settled before; `outcome` is 'unknown' if it may have taken effect
   */
  ack(options?: CallOptions): Promise<void>;
  /** Has it delivered again, now or after a delay, if deliveries are left. @throws as `ack` */
  nack(options?: NackOptions): Promise<void>;
  /** Starts the deadline anew. @throws as `ack` */
  extend(options?: CallOptions): Promise<void>;
  /** Puts it aside: it is delivered no more unless somebody replays it. @throws as `ack` */
  park(reason: string, options?: CallOptions): Promise<void>;
};

/** What a member of a group gets. A gap goes to one member, as a message does. */
export type GroupEvent<T> = GroupDelivery &
  ({ readonly type: 'message'; readonly message: Message<T> } | TopicGap);
