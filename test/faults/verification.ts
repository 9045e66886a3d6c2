/** Holds a cluster that is whole again against everything its clients and watchers were told. */
import { checkAppends } from '../lin/append.ts';
import { keyHistories, keyRegister } from '../lin/key-register.ts';
import { checkLeases } from '../lin/lease.ts';
import { checkRevisions } from '../lin/replay.ts';
import { searchLinearization } from '../lin/search.ts';
import type { Commit, StoreOperation } from '../lin/store.ts';
import { checkWatchRun, WatchLog } from '../lin/watch.ts';
import { waitFor } from '../support/wait.ts';
import type { FaultCluster } from './cluster/cluster.ts';
import type { Recorded } from './controls.ts';
import type { Load } from './workload/load.ts';
import { everything } from './workload/store-calls.ts';
import { readLog, type Watcher } from './workload/watchers.ts';

const shownViolations = 8;
const agreeTimeoutMs = 30_000;
/** Elections, pauses and full machines: how late the end of a lease may be seen. */
const leaseSlackSeconds = 60;

export class Verification {
  readonly #cluster: FaultCluster;
  readonly #load: Load;
  readonly #watchers: readonly Watcher[];
  readonly #log: Commit[] = [];

  constructor(cluster: FaultCluster, load: Load, watchers: readonly Watcher[]) {
    this.#cluster = cluster;
    this.#load = load;
    this.#watchers = watchers;
  }

  get revision(): number {
    return this.#log.at(-1)?.revision ?? 1;
  }

  /** Everything that the last check was about. */
  recorded(): Recorded {
    return {
      log: this.#log,
      operations: this.#load.operations(),
      runs: this.#watchers.flatMap(({ runs }) => runs),
    };
  }

  /** No operation may be under way. Throws with what is wrong; returns what was checked. */
  async check(): Promise<string> {
    const violations: string[] = [];
    const revision = await this.#newestRevision();
    violations.push(...(await this.#compareMembers(revision)));
    // From another member each time: they must all tell the same history.
    const source = this.#cluster.members[revision % this.#cluster.members.length];
    if (source === undefined) throw new Error('the cluster has no members');
    this.#log.push(...(await readLog(source.client, this.revision + 1, revision)));
    const operations = this.#load.operations();
    violations.push(...this.#checkOperations(operations));
    const runs = await this.#checkWatches(revision, violations);
    if (violations.length > 0) throw new ViolationError(violations);
    const answered = operations.filter(({ outcome }) => outcome.kind === 'ok').length;
    const unknown = operations.filter(({ outcome }) => outcome.kind === 'unknown').length;
    return `${answered} answered, ${unknown} open, ${runs} watches, revision ${revision}`;
  }

  /** Read through every member, because each may be the one that lags. */
  async #newestRevision(): Promise<number> {
    const answers = await Promise.all(
      this.#cluster.members.map(({ client }) => client.kv.range({ ...everything, limit: 1n })),
    );
    return Math.max(...answers.map(({ header }) => Number(header?.revision ?? 0n)));
  }

  /** The same content on every member, at the same revision. */
  async #compareMembers(revision: number): Promise<string[]> {
    const hashes = await Promise.all(
      this.#cluster.members.map(async (member) => {
        const answer = await waitFor(
          `the hash of ${member.name} at ${revision}`,
          () => member.client.maintenance.hashKV({ revision: BigInt(revision) }),
          { timeoutMs: agreeTimeoutMs },
        );
        return `hash ${answer.hash}, compacted ${answer.compactRevision}`;
      }),
    );
    if (new Set(hashes).size === 1) return [];
    const named = hashes.map((hash, index) => `${this.#cluster.members[index]?.name}: ${hash}`);
    return [`members differ at revision ${revision}: ${named.join('; ')}`];
  }

  #checkOperations(operations: readonly StoreOperation[]): string[] {
    const violations = checkRevisions({ log: this.#log, operations, mayExpire: () => true });
    for (const [key, history] of keyHistories(operations)) {
      const found = searchLinearization(keyRegister, history);
      if (found.kind === 'exhausted')
        violations.push(`search: ${key}: gave up after ${found.configurations} configurations`);
      if (found.kind === 'violation')
        violations.push(
          `search: ${key}: operation ${found.operation.id} cannot follow ${found.states.join(' or ')}`,
        );
    }
    violations.push(...checkAppends(this.#load.appends()));
    violations.push(
      ...checkLeases({
        ...{ log: this.#log, operations, unitsPerSecond: 1_000 },
        ...{ slackSeconds: leaseSlackSeconds, end: performance.now() },
      }),
    );
    return violations;
  }

  async #checkWatches(revision: number, violations: string[]): Promise<number> {
    const log = new WatchLog(this.#log);
    let count = 0;
    for (const watcher of this.#watchers) {
      await watcher.settle(this.#log).catch((error: unknown) => violations.push(`${error}`));
      for (const run of watcher.runs) {
        const isLast = run === watcher.runs.at(-1);
        violations.push(...checkWatchRun(log, run, isLast ? revision : 0));
        count += 1;
      }
    }
    return count;
  }
}

export class ViolationError extends Error {
  override name = 'ViolationError';
  readonly violations: readonly string[];

  constructor(violations: readonly string[]) {
    const shown = violations.slice(0, shownViolations);
    const more = violations.length > shown.length ? ['…'] : [];
    super([`${violations.length} violations`, ...shown, ...more].join('\n  '));
    this.violations = violations;
  }
}
