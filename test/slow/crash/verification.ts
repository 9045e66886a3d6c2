/** Holds a server that came back against everything its clients had been told before. */
import { checkWatch, RevisionReplay } from '../../support/checkers/replay.ts';
import type { WireClient } from '../../support/wire-client.ts';
import type { Load } from './load.ts';
import { type Follower, readHistory, readListing } from './log-reader.ts';

const shownViolations = 8;

export class Verification {
  readonly #replay: RevisionReplay;
  readonly #load: Load;
  readonly #follower: Follower | undefined;

  constructor(load: Load, start: bigint, follower?: Follower) {
    this.#replay = new RevisionReplay(start);
    this.#load = load;
    this.#follower = follower;
  }

  /** The revision up to which everything was checked; history may be compacted up to here. */
  get revision(): bigint {
    return this.#replay.revision;
  }

  /**
   * Checks all operations since the last call. No operation may be in flight. Throws with what is
   * wrong.
   */
  async check(client: WireClient): Promise<void> {
    const violations: string[] = [];
    const { revision, entries } = await readListing(client);
    if (revision < this.#load.newestRevision)
      violations.push(
        `the revision went back: clients saw ${this.#load.newestRevision}, the store is at ${revision}`,
      );
    const log = await readHistory(client, this.#replay.revision + 1n, revision);
    violations.push(...this.#replay.advance(log, this.#load.take()));
    violations.push(...this.#replay.compareListing(entries));
    violations.push(...(await this.#checkLeases(client)));
    if (this.#follower !== undefined) {
      await this.#follower.reached(revision);
      violations.push(...checkWatch(log, this.#follower.take()));
      violations.push(...this.#follower.violations.splice(0));
    }
    if (violations.length > 0)
      throw new Error(
        [
          `${violations.length} violations`,
          ...violations.slice(0, shownViolations),
          ...(violations.length > shownViolations ? ['…'] : []),
        ].join('\n  '),
      );
  }

  /** Leases that were acknowledged and never revoked exist, and hold exactly their keys. */
  async #checkLeases(client: WireClient): Promise<string[]> {
    const { leases } = await client.lease.leaseLeases({});
    const existing = new Set(leases.map(({ ID }) => ID));
    const violations = [...this.#load.leases]
      .filter((lease) => !existing.has(lease))
      .map((lease) => `lost: lease ${lease} was granted and is gone`);
    for (const id of [...existing].slice(-20)) {
      const { keys } = await client.lease.leaseTimeToLive({ ID: id, keys: true });
      const found = keys.map((key) => key.toString()).sort();
      const expected = [...this.#replay.entries]
        .filter(([, entry]) => entry.lease === id)
        .map(([key]) => key)
        .sort();
      if (JSON.stringify(found) !== JSON.stringify(expected))
        violations.push(`lease ${id} holds ${found.join()}, expected ${expected.join()}`);
    }
    return violations;
  }
}
