/** What the clients of a run do: always watch, and either use the store or some of the recipes. */
import type { Decisions, Site } from '../../engine/decisions.ts';
import { BarrierWorkload } from './barrier.ts';
import { CacheWorkload } from './cache.ts';
import { ConfigWorkload } from './config.ts';
import { CounterWorkload } from './counter.ts';
import { CyclicBarrierWorkload } from './cyclic-barrier.ts';
import { DoubleBarrierWorkload } from './double-barrier.ts';
import { ElectionWorkload } from './election.ts';
import { PriorityElectionWorkload } from './election-priority.ts';
import { IdWorkload } from './ids.ts';
import { LatchWorkload } from './latch.ts';
import { customLine, rwLock, semaphore } from './lock-kinds.ts';
import { LockWorkload } from './locks.ts';
import { type Machines, MembersWorkload } from './members.ts';
import { MembershipWorkload } from './membership.ts';
import { MigrationsWorkload } from './migrations.ts';
import { MultiLockWorkload } from './multi-lock.ts';
import { MutexWorkload } from './mutex.ts';
import { QueueWorkload } from './queue.ts';
import { RateLimitWorkload } from './rate-limit.ts';
import { RegistryWorkload } from './registry.ts';
import { SessionWorkload } from './session.ts';
import { SharedValueWorkload } from './shared-value.ts';
import { StmWorkload } from './stm.ts';
import { StoreWorkload } from './store.ts';
import { TopicWorkload } from './topic.ts';
import { WatchWorkload } from './watch.ts';
import type { Workload } from './workload.ts';

/** What a workload may want to know when it is made. */
export type Surroundings = {
  /** Microseconds of the simulation: the clock of histories. */
  readonly now: () => number;
  /** Machines for new members; undefined when this run changes no members. */
  readonly machines: Machines | undefined;
};

export type WorkloadMaker = (surroundings: Surroundings) => Workload;

/** By name, one line a recipe. A seed chooses from them; `--workload NAME` takes one for certain. */
const recipes: Readonly<Record<string, WorkloadMaker>> = {
  barrier: () => new BarrierWorkload(),
  cache: () => new CacheWorkload(),
  config: () => new ConfigWorkload(),
  counter: () => new CounterWorkload(),
  'cyclic-barrier': () => new CyclicBarrierWorkload(),
  'double-barrier': () => new DoubleBarrierWorkload(),
  election: () => new ElectionWorkload(),
  'election-priority': () => new PriorityElectionWorkload(),
  group: () => new MembershipWorkload(),
  ids: () => new IdWorkload(),
  latch: () => new LatchWorkload(),
  line: () => new LockWorkload(customLine),
  migrations: () => new MigrationsWorkload(),
  multi: () => new MultiLockWorkload(),
  mutex: () => new MutexWorkload(),
  queue: () => new QueueWorkload(),
  'rate-limit': () => new RateLimitWorkload(),
  registry: () => new RegistryWorkload(),
  rw: () => new LockWorkload(rwLock),
  semaphore: () => new LockWorkload(semaphore),
  session: () => new SessionWorkload(),
  stm: () => new StmWorkload(),
  topic: () => new TopicWorkload(),
  value: () => new SharedValueWorkload(),
};

const makers: Readonly<Record<string, WorkloadMaker>> = {
  store: ({ now }) => new StoreWorkload(now),
  ...recipes,
};

/** What `--workload` takes. */
export const workloadNames: readonly string[] = Object.keys(makers);

/** What a run is about. */
export type Work = {
  readonly names: readonly string[];
  /** How many times more seldom than otherwise something goes wrong; infinite: only for clients. */
  readonly calm: number;
};

/**
 * The store in a third of the runs, else one to three recipes. Those need a cluster that gets
 * something done: in most of their runs it has less trouble, or none but that of its clients.
 */
export function chooseWork(decisions: Decisions, forced?: string): Work {
  const site = decisions.site('knobs', 'workload');
  const dice = site.below(6);
  if (forced === 'store' || (forced === undefined && dice < 2))
    return { names: ['store'], calm: 1 };
  const count = dice < 4 ? 1 : dice - 2;
  const names = forced === undefined ? chooseRecipes(site, count) : [forced];
  const calm = [1, 5, 25, Number.POSITIVE_INFINITY][decisions.site('knobs', 'calm').below(4)] ?? 1;
  return { names, calm };
}

/** @throws RangeError when there is no workload of a name */
export function makeWorkloads(
  names: readonly string[],
  surroundings: Surroundings,
): readonly Workload[] {
  const { machines } = surroundings;
  return [
    ...(machines === undefined ? [] : [new MembersWorkload(machines)]),
    new WatchWorkload(),
    ...names.map((name) => makerOf(name)(surroundings)),
  ];
}

function chooseRecipes(site: Site, count: number): readonly string[] {
  const others = Object.keys(recipes);
  const chosen: string[] = [];
  while (chosen.length < count) chosen.push(...others.splice(site.below(others.length), 1));
  return chosen;
}

function makerOf(name: string): WorkloadMaker {
  const maker = makers[name];
  if (maker === undefined) {
    throw new RangeError(`the workload '${name}' must be one of ${workloadNames.join(', ')}`);
  }
  return maker;
}
