/** One run of one layer: by seed, or by schedule. */
import { Decisions, type Schedule } from './engine/decisions.ts';
import { Engine } from './engine/engine.ts';
import { shrink } from './engine/shrink.ts';
import { Violation } from './engine/violation.ts';
import { defaultFullRun, FullSimulation } from './full/simulation.ts';
import type { PointCounts } from './points.ts';
import { RaftSimulation } from './raft/simulation.ts';

export const layers = ['raft', 'full'] as const;
export type Layer = (typeof layers)[number];

export type RunResult = {
  readonly hash: string;
  readonly events: number;
  readonly simulatedUs: number;
  readonly points: PointCounts;
  readonly violation: Violation | undefined;
};

export type RunOptions = {
  /** Told what happens. */
  readonly narrate?: ((line: string) => void) | undefined;
  /** What clients do in the full layer; by default the seed chooses. */
  readonly workload?: string | undefined;
};

interface Simulation {
  readonly points: PointCounts;
  run(): void | Promise<void>;
}

const makers: Readonly<Record<Layer, (engine: Engine, options: RunOptions) => Simulation>> = {
  raft: (engine) => new RaftSimulation(engine),
  full: (engine, { workload }) => new FullSimulation(engine, { ...defaultFullRun, workload }),
};

export function runSeed(layer: Layer, seed: number, options: RunOptions = {}): Promise<RunResult> {
  return run(layer, new Decisions(seed, { kind: 'free' }), options);
}

export function replay(
  layer: Layer,
  seed: number,
  schedule: Schedule,
  options: RunOptions = {},
): Promise<RunResult> {
  return run(layer, new Decisions(seed, { kind: 'replay', schedule }), options);
}

/** The choices of a run, made smaller for `forMs` of real time as long as the same invariant breaks. */
export async function shrinkSeed(
  layer: Layer,
  seed: number,
  forMs: number,
  options: RunOptions = {},
): Promise<Schedule | undefined> {
  const decisions = new Decisions(seed, { kind: 'record' });
  const invariant = (await run(layer, decisions, options)).violation?.invariant;
  if (invariant === undefined) return undefined;
  const fails = async (schedule: Schedule) =>
    (await replay(layer, seed, schedule, options)).violation?.invariant === invariant;
  const { recorded } = decisions;
  if (!(await fails(recorded))) return undefined;
  const endMs = performance.now() + forMs;
  return shrink(recorded, { fails, goOn: () => performance.now() < endMs });
}

async function run(layer: Layer, decisions: Decisions, options: RunOptions): Promise<RunResult> {
  const engine = new Engine(decisions, options.narrate);
  const simulation = makers[layer](engine, options);
  let violation: Violation | undefined;
  try {
    await simulation.run();
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = error;
    engine.tell(() => error.message);
    engine.trace.addText(error.message);
  }
  return {
    hash: engine.trace.hex,
    events: engine.events,
    simulatedUs: engine.now,
    points: simulation.points,
    violation,
  };
}
