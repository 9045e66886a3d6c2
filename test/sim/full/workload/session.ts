/**
 * Sessions with a lock-delay, which processes that were killed or cut off resume, and with them the
 * lock that they held. Some start over in the middle of a hold: nobody renews what they had, or a
 * former self goes on doing so. The thread that keeps sessions alive cannot run here: it is tested with real
 * processes.
 */
import type { MutexHandle } from '../../../../recipes/locks/mutex-handle.ts';
import { noMetrics } from '../../../../recipes/metrics.ts';
import { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { SessionOptions } from '../../../../sdk/session.ts';
import { LeaseSession } from '../../../../sdk/session-client.ts';
import { checkFencing, type FencedWrite, type Hold } from '../../../lin/recipes.ts';
import { MS } from '../../engine/engine.ts';
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const name = 'kept';

/** What a client has noted of a hold, as in a file: it outlives the process. */
type Note = {
  readonly session: string;
  readonly sequencer: string;
  readonly token: bigint;
  /** Somebody still renews it: unless it is resumed, and closed, it goes on. */
  readonly isAlive: boolean;
};

/** A hold as far as its holder has seen it. */
type Possession = {
  readonly session: string;
  readonly token: bigint;
  /** No other may hold earlier, unless it was given up. In microseconds of the simulation. */
  keptUntil: number;
  isGivenUp: boolean;
};

/** Clocks differ in speed, and the store counts in ticks. */
const tolerance = 0.9;

export class SessionWorkload implements Workload {
  readonly #notes = new Map<string, Note>();
  readonly #possessions: Possession[] = [];
  readonly #holds: Hold[] = [];
  readonly #writes: FencedWrite[] = [];
  #highest = 0n;

  async run(client: ClientContext): Promise<void> {
    while (!client.isEnding()) {
      await this.#live(client).catch(ignoreRefusal);
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  check(): void {
    const [wrong] = checkFencing(this.#holds, this.#writes);
    hold(wrong === undefined, 14, () => `${wrong}`);
  }

  /** One session. It is closed at the end, unless the process starts over: then it is returned to. */
  async #live(client: ClientContext): Promise<void> {
    const note = this.#notes.get(client.name);
    const lease = await this.#open(client, note);
    const session = new RecipeSession(lease, noMetrics);
    let startsOver = false;
    try {
      let lock: MutexHandle | undefined;
      if (note?.session === session.id) lock = await this.#takeBack(client, session, note);
      do {
        startsOver = await this.#hold(client, session, lock);
        lock = undefined;
      } while (
        !startsOver &&
        session.state !== 'lost' &&
        !client.isEnding() &&
        client.choose.below(4) > 0
      );
    } finally {
      if (startsOver) {
        if (!this.#notes.get(client.name)?.isAlive) lease.abandon();
      } else {
        if (session.state !== 'lost') this.#giveUp(client, session);
        await session.close();
      }
    }
  }

  async #open(client: ClientContext, note: Note | undefined): Promise<LeaseSession> {
    const { knobs, ending, choose } = client;
    const ttl = knobs.leaseTtlSeconds * 1_000;
    const open = async (options: SessionOptions) => {
      const session = await client.conclave.client.session(options);
      if (session instanceof LeaseSession) return session;
      throw new Error('a session of another kind');
    };
    const terms = { ttl, lockDelay: ttl, signal: ending };
    if (note?.isAlive || (note !== undefined && choose.below(4) > 0)) {
      try {
        return await open({ ...terms, resume: note.session });
      } catch (error) {
        if (!isConclaveError(error, 'SESSION_LOST')) throw error;
      }
    }
    this.#notes.delete(client.name);
    return open(terms);
  }

  async #takeBack(
    client: ClientContext,
    session: RecipeSession,
    note: Note,
  ): Promise<MutexHandle | undefined> {
    // If that takes too long the session itself removes what it inherited.
    this.#mayGo(session);
    try {
      const asked = client.now();
      const lock = await session.mutex(name).resume(note.sequencer);
      const between = this.#possessions.find(
        (other) =>
          other.session !== note.session && other.token > note.token && other.token < lock.token,
      );
      hold(between === undefined, 35, () => {
        const span = `between ${note.token} and ${lock.token}`;
        return `${client.name} took its lock back, and session ${between?.session} held ${span}`;
      });
      this.#acquired(client, session, lock, asked);
      return lock;
    } catch (error) {
      ignoreRefusal(error);
      // What is not taken back is given up after a while.
      this.#giveUp(client, session);
      return undefined;
    }
  }

  /** Resolves to whether the process starts over instead of letting go. */
  async #hold(
    client: ClientContext,
    session: RecipeSession,
    resumed: MutexHandle | undefined,
  ): Promise<boolean> {
    const { knobs, ending, choose } = client;
    const asked = client.now();
    let lock = resumed;
    if (lock === undefined) {
      lock = await session.mutex(name).acquire({ timeout: 20_000, signal: ending });
      this.#acquired(client, session, lock, asked);
    }
    await client.pause(knobs.meanPauseMs);
    if (lock.isHeld) {
      this.#see(client, session);
      this.#write(client.name, lock.token);
    }
    await client.pause(knobs.meanPauseMs);
    const note = this.#notes.get(client.name);
    if (lock.isHeld && note !== undefined && !client.isEnding() && choose.below(3) === 0) {
      this.#notes.set(client.name, { ...note, isAlive: choose.below(2) === 0 });
      return true;
    }
    if (lock.isHeld) this.#giveUp(client, session);
    await lock.release().catch(ignoreRefusal);
    return false;
  }

  #acquired(client: ClientContext, session: RecipeSession, lock: MutexHandle, asked: number): void {
    const { name: holder, now } = client;
    const { token, sequencer } = lock;
    const early = this.#possessions.find(
      (other) =>
        other.session !== session.id &&
        other.token < token &&
        !other.isGivenUp &&
        now() < other.keptUntil,
    );
    hold(early === undefined, 36, () => {
      const earlyMs = (((early?.keptUntil ?? 0) - now()) / MS).toFixed();
      return `${holder} holds with ${token}, ${earlyMs} ms early after session ${early?.session}`;
    });
    this.#holds.push({ holder, token, asked, acquired: now(), ended: Number.POSITIVE_INFINITY });
    this.#possessions.push({ session: session.id, token, keptUntil: 0, isGivenUp: false });
    this.#notes.set(holder, { session: session.id, sequencer, token, isAlive: false });
    this.#see(client, session);
  }

  /** The lease lives on for as long as this shows, whatever becomes of the client. */
  #see({ now, knobs }: ClientContext, session: RecipeSession): void {
    const mine = this.#possessions.findLast((each) => each.session === session.id);
    const remainingMs = session.validUntilMs - session.client.clock.monotonicMs();
    if (mine === undefined || remainingMs <= 0) return;
    const lockDelayMs = knobs.leaseTtlSeconds * 1_000;
    mine.keptUntil = now() + (remainingMs + lockDelayMs) * tolerance * MS;
  }

  #giveUp({ name: holder }: ClientContext, session: RecipeSession): void {
    this.#notes.delete(holder);
    this.#mayGo(session);
  }

  #mayGo(session: RecipeSession): void {
    for (const possession of this.#possessions) {
      if (possession.session === session.id) possession.isGivenUp = true;
    }
  }

  /** The resource remembers the highest token, and refuses lower ones. */
  #write(holder: string, token: bigint): void {
    if (token < this.#highest) return;
    this.#highest = token;
    this.#writes.push({ holder, token });
  }
}
