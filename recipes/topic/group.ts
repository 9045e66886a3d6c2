/**
 * A group: each message goes to one of its members, and again to one when it was not acknowledged in
 * time. Underneath is a queue in the topic's own keyspace, which a feed fills from the topic: claims,
 * deadlines, attempts, the order of keys and dead letters are the queue's.
 */
import type { Codec } from '../../sdk/codec.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import { Bell } from '../common/bell.ts';
import type { Background } from '../common/context.ts';
import { fullJitterMs, mayRepeat, pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Claim } from '../queue/claim.ts';
import { QueueAttention } from '../queue/queue-attention.ts';
import { QueueConsumer } from '../queue/queue-consumer.ts';
import { deliver } from './delivery.ts';
import { type Dispatched, dispatchedCodec } from './dispatched.ts';
import { feedGroup, type GroupFeed } from './group-feed.ts';
import type { GroupEvent } from './topic-events.ts';
import { WaitingClaims } from './waiting-claims.ts';

export type GroupMember<T> = GroupFeed & {
  readonly codec: Codec<T>;
  readonly ackDeadlineMs: number;
  readonly maxDeliveries: number;
  /** Deliveries to this member that are not settled, at most. */
  readonly maxInFlight: number;
};

export async function* consumeInGroup<T>(
  member: GroupMember<T>,
  signal: AbortSignal,
): AsyncGenerator<GroupEvent<T>> {
  const { core, name, codec, ackDeadlineMs, maxDeliveries, maxInFlight, maxPending } = member;
  // The consumer ends with this loop, not with the session.
  const own = { ...core.scoped, background: new Set<Background>() };
  const consumer = new QueueConsumer<Dispatched<T>>(own, name, {
    codec: dispatchedCodec(codec),
    visibility: ackDeadlineMs,
    maxAttempts: maxDeliveries,
    limits: { capacity: maxPending },
  });
  const stop = linkedSignal(signal);
  let failure: { readonly error: unknown } | undefined;
  const fail = (error: unknown) => {
    failure ??= { error };
    stop.abort(error);
  };
  const { client } = own.session;
  const attention = new QueueAttention(client, consumer, { slots: 1 });
  const background = Promise.all([
    attention.run(stop.signal).catch(fail),
    feedGroup(member, stop.signal).catch(fail),
  ]);
  const room = new Bell(1);
  let inFlight = 0;
  let failures = 0;
  const waiting = new WaitingClaims<Dispatched<T>>(client.clock, ackDeadlineMs);
  try {
    while (!stop.signal.aborted) {
      if (inFlight >= maxInFlight) {
        await room.heard(stop.signal);
        continue;
      }
      const sinceMs = client.clock.monotonicMs();
      let claims: readonly Claim<Dispatched<T>>[];
      try {
        const most = Math.min(waiting.most, maxInFlight - inFlight);
        claims = await consumer.claimMany(most, stop.signal);
        failures = 0;
      } catch (error) {
        if (stop.signal.aborted || !mayClaimAgain(error)) throw error;
        failures += 1;
        await pause(client.clock, fullJitterMs(failures, client.random), stop.signal);
        continue;
      }
      if (claims.length === 0) {
        await attention.mayBeJob(stop.signal);
        continue;
      }
      waiting.put(claims, sinceMs);
      for (let claim = waiting.take(); claim !== undefined; claim = waiting.take()) {
        inFlight += 1;
        yield deliver(core.context, core.name, claim, () => {
          inFlight -= 1;
          room.ring();
        });
      }
      waiting.adapt();
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
  } finally {
    stop.abort();
    await waiting.close();
    await background;
    await consumer.close();
  }
  if (failure !== undefined) throw failure.error;
}

/** Also when the session was lost meanwhile, known to it or not: the consumer goes on in another. */
const mayClaimAgain = (error: unknown): boolean =>
  mayRepeat(error) ||
  (isConclaveError(error) && ['ABORTED', 'SESSION_LOST', 'LEASE_NOT_FOUND'].includes(error.code));
