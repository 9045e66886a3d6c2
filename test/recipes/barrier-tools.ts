/** What the tests of barriers and latches have in common. */
import { noMetrics } from '../../recipes/metrics.ts';
import { connect } from '../../sdk/connect.ts';
import { Faults, faultyClient } from '../support/faulty-kv.ts';
import type { RewindableStore } from './rewindable-store.ts';
import { Actor, eventually } from './world.ts';

/** As in locks-crowd.test.ts: fewer than 1,000 unless asked for, but more than fit one transaction. */
export const crowd = Number(process.env['CONCLAVE_TEST_CROWD'] ?? 130);

export type RewoundActor = {
  readonly actor: Actor;
  /** Goes back to the old snapshot, and waits until the actor has looked at it some times. */
  rewind(looks?: number): Promise<void>;
  close(): Promise<void>;
};

/** A session whose lease is part of the old snapshot, too. */
export async function actorOf(store: RewindableStore): Promise<RewoundActor> {
  const faults = new Faults();
  const client = faultyClient(await connect(store.endpoint), faults);
  const session = await client.session({ ttl: '60s' });
  await store.after.leases.grant('60s', { id: session.lease });
  return {
    actor: new Actor(client, faults, session, noMetrics),
    rewind: async (looks = 3) => {
      store.rewind();
      let answered = 0;
      faults.after = () => {
        answered += 1;
      };
      await eventually('some looks', () => answered >= looks);
    },
    close: () => client.close(),
  };
}

/** Until the actor has opened so many watches since its calls were last taken. */
export async function watches({ faults }: Actor, count: number): Promise<void> {
  const opened = () => faults.calls.filter(({ kind }) => kind === 'watch').length;
  await eventually(`${count} watches`, () => opened() >= count);
}

/**
 * Starts them a few at a time, as many processes would: all at once, one process would have its own
 * requests time out. `isUnderWay` tells whether so many are.
 */
export async function crowded<T>(
  count: number,
  start: (index: number) => Promise<T>,
  isUnderWay: (started: number) => Promise<boolean> | boolean,
): Promise<Promise<T>[]> {
  const atOnce = 50;
  const all: Promise<T>[] = [];
  while (all.length < count) {
    for (let left = Math.min(atOnce, count - all.length); left > 0; left -= 1) {
      const started = start(all.length);
      started.catch(() => undefined);
      all.push(started);
    }
    const { length } = all;
    if (length < count) await eventually(`${length} of them`, () => isUnderWay(length));
  }
  return all;
}
