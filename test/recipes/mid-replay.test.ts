/**
 * A watch that breaks while it replays what happened before: what the rest of the replay would have
 * told must reach its recipe all the same, long before the slow re-read.
 */
import { describe, expect, test } from 'vitest';
import { DoubleBarrier } from '../../recipes/barriers/double-barrier.ts';
import type { RecipeContext } from '../../recipes/common/context.ts';
import { Election } from '../../recipes/election/election.ts';
import { Group } from '../../recipes/group/group.ts';
import type { GroupEvent } from '../../recipes/group/group-view.ts';
import { CustomLine } from '../../recipes/locks/custom-line.ts';
import { MultiLock } from '../../recipes/locks/multi-lock.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { RwLock } from '../../recipes/locks/rw-lock.ts';
import { Semaphore } from '../../recipes/locks/semaphore.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

/** A broken watch is opened again after a tenth of it: much sooner than the re-read. */
const recheck = '5s';
const beforeRecheck = '3s';

type Interruption = {
  /** Whether so many watches wait to replay. */
  readonly opened: (count: number) => boolean;
  /** The replay begins, and breaks. Watches opened later are whole. */
  readonly replay: () => void;
};

/** Watches of this client say nothing until `replay`, and break after so many notices. */
function interruptWatches({ client }: Actor, afterNotices: number): Interruption {
  const replaying = new AbortController();
  const watch = client.kv.watch.bind(client.kv);
  let count = 0;
  const begun = async (signal?: AbortSignal) => {
    for (const each of [replaying.signal, signal]) {
      if (each?.aborted) return;
    }
    await new Promise<void>((resolve) => {
      for (const each of [replaying.signal, signal]) {
        each?.addEventListener('abort', () => resolve(), { once: true });
      }
    });
  };
  Object.assign(client.kv, {
    watch: (...[range, options]: Parameters<typeof watch>) => {
      const watched = watch(range, options);
      if (replaying.signal.aborted) return watched;
      count += 1;
      const iterate = watched[Symbol.asyncIterator].bind(watched);
      watched[Symbol.asyncIterator] = async function* () {
        await begun(options?.signal);
        const iterator = iterate();
        for (let seen = 0; seen < afterNotices; seen++) {
          const next = await iterator.next();
          if (next.done) return;
          yield next.value;
        }
        await watched.cancel();
        throw new ConclaveError('UNREACHABLE', 'broken by the test');
      };
      return watched;
    },
  });
  return { opened: (wanted) => count >= wanted, replay: () => replaying.abort() };
}

type Held = { release(): Promise<void> };
type Kind = {
  readonly acquire: (
    context: RecipeContext,
    name: string,
    wait: { timeout?: string },
  ) => Promise<Held>;
};

const kinds: Readonly<Record<string, Kind>> = {
  mutex: { acquire: (context, name, wait) => new Mutex(context, name, { recheck }).acquire(wait) },
  'mutex in the layout of etcd': {
    acquire: (context, name, wait) =>
      new Mutex(context, name, { recheck, layout: 'etcd' }).acquire(wait),
  },
  'rw, to write': {
    acquire: (context, name, wait) => new RwLock(context, name, { recheck }).write(wait),
  },
  'rw, upgradable': {
    acquire: (context, name, wait) => new RwLock(context, name, { recheck }).upgradable(wait),
  },
  semaphore: {
    acquire: (context, name, wait) =>
      new Semaphore(context, name, { limit: 1, recheck }).acquire(wait),
  },
  'multi-lock': {
    acquire: (context, name, wait) => new MultiLock(context, [name], { recheck }).acquire(wait),
  },
  'line with a rule': {
    acquire: (context, name, wait) =>
      new CustomLine(context, name, { policy: (_me, ahead) => ahead.at(-1), recheck }).acquire(
        wait,
      ),
  },
  'election, first come, first served': {
    acquire: async (context, name, wait) => {
      const election = new Election<string>(context, name, { recheck });
      const leadership = await election.campaign({ value: 'x', ...wait });
      return { release: () => leadership.resign() };
    },
  },
};

describe.skipIf(storeMissing).each([0, 1, 2])('a watch that breaks after %i notices', (notices) => {
  const world = useWorld();

  test.each(Object.entries(kinds))('%s: the turn comes', async (_, { acquire }) => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    // Also where the store could tell it of its turn.
    for (const { faults } of [b, c]) {
      faults.plan = ({ kind }) => (kind === 'wait' ? 'refuse' : 'pass');
    }
    const first = await acquire(a.context, name, {});
    const { opened, replay } = interruptWatches(b, notices);
    const second = acquire(b.context, name, { timeout: beforeRecheck });
    await eventually('its watches', () => opened(2));
    const third = acquire(c.context, name, {});
    await eventually('who comes after it', () =>
      c.faults.calls.some(({ kind }) => kind === 'watch'),
    );
    await first.release();
    replay();
    await (await second).release();
    await (await third).release();
  });

  test('double barrier: all enter and all leave', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const of = (actor: Actor) => new DoubleBarrier(actor.context, name, { parties: 2, recheck });
    const entering = interruptWatches(b, notices);
    const enters = of(b).enter({ timeout: beforeRecheck });
    await eventually('its watches', () => entering.opened(1));
    const first = await of(a).enter();
    entering.replay();
    const second = await enters;
    const leaving = interruptWatches(b, notices);
    const leaves = second.leave({ timeout: beforeRecheck });
    await eventually('its watch', () => leaving.opened(1));
    const left = first.leave();
    leaving.replay();
    await Promise.all([leaves, left]);
  });

  test('membership: each change is told once, or in a reset', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const group = new Group<number>(b.context, name, { recheck });
    const watching = interruptWatches(b, notices);
    const events: GroupEvent<number>[] = [];
    group.changes$.subscribe((event) => events.push(event));
    await eventually('its watch', () => watching.opened(1));
    const join = (id: string, data: number) =>
      new Group<number>(a.context, name, { recheck }).join({ id, data });
    const gone = await join('gone', 1);
    await join('one', 1);
    await gone.leave();
    await join('two', 2);
    watching.replay();
    const present = new Set<string>();
    const apply = () => {
      present.clear();
      for (const event of events) {
        if (event.type === 'reset') {
          present.clear();
          for (const { id } of event.members) present.add(id);
        } else if (event.type === 'joined') {
          expect(present.has(event.member.id)).toBe(false);
          present.add(event.member.id);
        } else if (event.type === 'left') {
          expect(present.delete(event.member.id)).toBe(true);
        }
      }
      return [...present].sort().join();
    };
    await eventually('the two', () => apply() === 'one,two');
  });
});
