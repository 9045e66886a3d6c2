/**
 * What is done with locks of every kind: patient and impatient waits, tries, holds that are used
 * through the guard, two tasks of one session, and keys removed by hand. Everything is judged by the
 * log, in the order of revisions; that nobody waits for ever, by the end of the run.
 */
import type { LockHandle } from '../../../../recipes/locks/lock-handle.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { op } from '../../../../sdk/txn.ts';
import {
  checkLine,
  checkUses,
  formatUse,
  type Grant,
  type Line,
  type UseRule,
} from '../../../lin/recipes-line.ts';
import { SECOND } from '../../engine/engine.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

/** What waiting takes; a client that is to end waits on: it must be its turn at some time. */
export type Patience = { readonly timeout?: number };

/** What every handle of a lock has. */
export type Held = {
  readonly isHeld: boolean;
  /** The keys that stand for the hold, and its token at each. */
  readonly places: readonly { readonly sequencer: string; readonly token: bigint }[];
  readonly guard: LockHandle['guard'];
  /** What the holder takes itself for. */
  readonly mode?: string;
  release(): Promise<void>;
};

export type Kind = {
  readonly name: string;
  readonly lines: readonly Line[];
  readonly uses: UseRule;
  /** Whether keys may be removed by hand without breaking what is checked. */
  readonly survivesRemoval: boolean;
  /** One attempt; null when it was only tried and refused. */
  take(
    client: ClientContext,
    session: RecipeSession,
    patience: Patience | 'try',
    recheck: number,
  ): Promise<Held | null>;
  /** What a holder does beside holding. */
  whileHeld?(client: ClientContext, held: Held): Promise<void>;
  /** What anybody does to the lock. */
  disturb?(client: ClientContext, session: RecipeSession): Promise<void>;
};

/** What was left behind must be gone so long after faults end. */
const LEFT_BEHIND_US = 60 * SECOND;

export class LockWorkload implements Workload {
  readonly #kind: Kind;
  readonly #grants: Grant[] = [];

  constructor(kind: Kind) {
    this.#kind = kind;
  }

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      const { choose } = client;
      // A slow re-read would hide a watch that missed something.
      const recheck = choose.below(2) === 0 ? 600_000 : 1_000;
      const tasks = Array.from({ length: 1 + choose.below(2) }, async () => {
        while (!client.isEnding() && session.state !== 'lost') {
          await this.#attempt(client, session, recheck).catch(ignoreRefusal);
          await client.pause(client.knobs.meanPauseMs);
        }
      });
      await Promise.all(tasks);
      await this.#leftNothing(client, session);
    });
  }

  check(log: CommitLog): void {
    const { lines, uses, name } = this.#kind;
    for (const line of lines) {
      const [wrong] = checkLine(log.commits, line, this.#grants);
      hold(wrong === undefined, 24, () => `${name}: ${wrong}`);
    }
    const [misused] = checkUses(log.commits, usesOf(name), uses);
    hold(misused === undefined, 26, () => `${name}: ${misused}`);
  }

  async #attempt(client: ClientContext, session: RecipeSession, recheck: number): Promise<void> {
    const { choose, knobs, pause } = client;
    const kind = this.#kind;
    const how = choose.below(8);
    if (how === 0) await kind.disturb?.(client, session);
    if (how === 1 && kind.survivesRemoval) await this.#removeOne(client, session);
    const timeout = { timeout: 1 + choose.exponential(knobs.meanPauseMs) };
    const patience = how < 2 ? 'try' : how < 4 ? timeout : {};
    const held = await kind.take(client, session, patience, recheck);
    if (held === null) return;
    this.#note(client, held);
    await pause(knobs.meanPauseMs);
    await this.#use(session, held).catch(ignoreRefusal);
    await kind.whileHeld?.(client, held).catch(ignoreRefusal);
    await pause(knobs.meanPauseMs);
    await this.#use(session, held).catch(ignoreRefusal);
    await held.release();
  }

  #note({ name }: ClientContext, { places }: Held): void {
    for (const { sequencer, token } of places) {
      this.#grants.push({ holder: name, ...placeOf(sequencer), token: Number(token) });
    }
  }

  /** A write that takes effect only while the lock is held. */
  async #use({ client }: RecipeSession, held: Held): Promise<void> {
    const [place] = held.places;
    if (place === undefined || !held.isHeld) return;
    const { mode } = held;
    const use = formatUse({ ...placeOf(place.sequencer), token: Number(place.token), mode });
    await held.guard(client.kv.txn().then(op.put(`${usesOf(this.#kind.name)}last`, use))).commit();
  }

  /** As an operator with too much courage would. */
  async #removeOne({ choose }: ClientContext, { client }: RecipeSession): Promise<void> {
    const [line] = this.#kind.lines;
    if (line === undefined) return;
    const { kvs } = await client.kv.list({ prefix: line.prefix }, { keysOnly: true });
    const victim = kvs[choose.below(Math.max(1, kvs.length))];
    if (victim !== undefined) await client.kv.delete(victim.key);
  }

  /** Everything was released or given up: what that left behind is removed while the session lives. */
  async #leftNothing(client: ClientContext, session: RecipeSession): Promise<void> {
    if (!client.isEnding()) return;
    const untilUs = client.now() + LEFT_BEHIND_US;
    for (;;) {
      const left = await this.#keysOf(session);
      if (session.state !== 'live' || left.length === 0) return;
      hold(client.now() < untilUs, 25, () => `${client.name} left ${left.join(', ')}`);
      await client.pause(500);
    }
  }

  async #keysOf({ client, lease }: RecipeSession): Promise<readonly string[]> {
    const keys: string[] = [];
    for (const { prefix } of this.#kind.lines) {
      try {
        const { kvs } = await client.kv.list({ prefix });
        keys.push(...kvs.filter((kv) => kv.lease === lease).map(({ key }) => key));
      } catch (error) {
        // Whoever does not know asks again.
        if (!isConclaveError(error)) throw error;
        keys.push('what nobody could list');
      }
    }
    return keys;
  }
}

const usesOf = (name: string): string => `used/${name}/`;

function placeOf(sequencer: string): Pick<Grant, 'key' | 'createRevision'> {
  const at = sequencer.lastIndexOf('@');
  return { key: sequencer.slice(0, at), createRevision: Number(sequencer.slice(at + 1)) };
}

/** A handle of one key as `Held`. */
export const heldBy = (handle: Omit<LockHandle, 'state$' | 'signal'>): Held => ({
  get isHeld() {
    return handle.isHeld;
  },
  get places() {
    return [handle];
  },
  guard: (txn) => handle.guard(txn),
  release: () => handle.release(),
});
