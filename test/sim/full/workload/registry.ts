/** Discovery: who is registered is listed, who left stays away, and pools show what there was. */
import { flapDamping } from '../../../../recipes/discovery/damping.ts';
import { readInstanceRecord } from '../../../../recipes/discovery/instance.ts';
import { outliers } from '../../../../recipes/discovery/outliers.ts';
import type { Pool } from '../../../../recipes/discovery/pool.ts';
import type { Registration } from '../../../../recipes/discovery/registration.ts';
import { servicePrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { checkFollowed, type Followed } from './followed.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const SERVICE = 'workers';
const prefix = servicePrefix(SERVICE);

export class RegistryWorkload implements Workload {
  readonly #followers: Followed[] = [];

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, (session) =>
      client.choose.below(3) === 0 ? this.#call(client, session) : this.#serve(client, session),
    );
  }

  check(log: CommitLog): void {
    const wrong = checkFollowed(log, prefix, this.#followers);
    hold(wrong === undefined, 66, () => `${wrong}`);
    const older = findOlderData(log);
    hold(older === undefined, 67, () => `${older}`);
  }

  /** An instance that is well and ill by turns, changes, and leaves in one way or another. */
  async #serve(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, ending, choose, pause, isEnding } = client;
    let healthy = choose.below(4) > 0;
    const registration = await session.discovery<number>(SERVICE).register({
      id: name,
      address: name,
      meta: 0,
      zone: `zone/${choose.below(2)}`,
      health: {
        check: () => healthy,
        interval: 100,
        timeout: 50,
        fall: 2,
        ...(choose.below(2) === 0 ? {} : { withdrawAfter: 1_000 }),
      },
      signal: ending,
    });
    let isMeddledWith = false;
    for (let turns = 1 + choose.below(8); turns > 0 && !isEnding(); turns -= 1) {
      await pause(knobs.meanPauseMs);
      switch (choose.below(6)) {
        case 0:
          healthy = !healthy;
          break;
        case 1:
          await registration.update({ meta: turns }).catch(ignoreRefusal);
          break;
        case 2:
          await registration.set(choose.below(2) === 0 ? 'up' : 'draining').catch(ignoreRefusal);
          break;
        case 3:
          if (choose.below(4) === 0) {
            isMeddledWith = true;
            await session.client.kv.delete(prefix + name).catch(ignoreRefusal);
          }
          break;
        default:
      }
      if (!isMeddledWith) await this.#look(name, session, registration);
    }
    if (choose.below(3) === 0) await registration.retire({ grace: 500, quiet: 50 });
    else await registration.deregister();
  }

  async #look(
    name: string,
    session: RecipeSession,
    registration: Registration<number>,
  ): Promise<void> {
    const isThere = () => registration.state === 'registered' && session.state === 'live';
    let turns = 0;
    const subscription = registration.state$.subscribe(() => {
      turns += 1;
    });
    try {
      const wasThere = isThere();
      const listed = await session.discovery(SERVICE).list();
      // Only one that is there through the whole look must be seen in it.
      if (!wasThere || !isThere() || turns > 1) return;
      const isListed = listed.some(({ id }) => id === registration.id);
      hold(isListed, 65, () => `${name} is registered in a live session and not listed`);
    } finally {
      subscription.unsubscribe();
    }
  }

  /** A client that calls instances, some of which fail. */
  async #call(client: ClientContext, session: RecipeSession): Promise<void> {
    const { name, knobs, choose, pause, isEnding, ending } = client;
    await using pool = session.discovery<number>(SERVICE).pool({
      recheck: 2_000,
      locality: `zone/${choose.below(2)}`,
      eject: outliers({ consecutiveFailures: 2, baseEjection: 300, interval: 300, minCalls: 3 }),
      damping: flapDamping({ halfLife: 500, maxSuppress: 2_000 }),
    });
    const followed: Followed = { name, sights: [] };
    this.#followers.push(followed);
    pool.instances$.subscribe((instances) => {
      const keys = new Map(instances.map(({ id, modRevision }) => [id, modRevision]));
      followed.sights.push({ isReset: true, revision: pool.revision, keys });
    });
    await pool.ready(ending);
    for (let calls = 5 + choose.below(30); calls > 0 && !isEnding(); calls -= 1) {
      await this.#callOne(pool, choose.below(3) === 0, () => pause(knobs.meanPauseMs));
    }
  }

  async #callOne(pool: Pool<number>, fails: boolean, work: () => Promise<void>): Promise<void> {
    const picked = pool.pick();
    const up = pool.snapshot.filter(({ status }) => status === 'up');
    const isRight = picked === null ? up.length === 0 : up.includes(picked.instance);
    hold(isRight, 66, () => `of ${up.length} that are up, ${picked?.instance.id} is picked`);
    await work();
    if (fails) picked?.fail();
    else picked?.done();
  }
}

/** Within one life of a key, what one registration writes is ever later. */
function findOlderData(log: CommitLog): string | undefined {
  const latest = new Map<string, { readonly mark: string; readonly sequence: number }>();
  for (const { revision, changes } of log.commits) {
    for (const { key, entry } of changes) {
      if (!key.startsWith(prefix)) continue;
      if (entry === undefined) {
        latest.delete(key);
        continue;
      }
      const { registration: mark = '', sequence = 0 } = readInstanceRecord({
        value: Buffer.from(entry.value),
      });
      const before = latest.get(key);
      if (before?.mark === mark && before.sequence > sequence) {
        return `${key} goes back from ${before.sequence} to ${sequence} at revision ${revision}`;
      }
      latest.set(key, { mark, sequence });
    }
  }
  return undefined;
}
