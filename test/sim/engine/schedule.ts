/**
 * A schedule as text, to be read, kept and replayed: one line a site, `ordinal=choice` for each choice
 * that was not the default.
 *
 * ```
 * layer raft
 * seed 4711
 * invariant 3
 * knobs members | 0=1
 * network lose 1>2 | 17=1 18=1
 * ```
 */
import type { Schedule } from './decisions.ts';
import type { InvariantNumber } from './violation.ts';

export type StoredSchedule = {
  readonly layer: string;
  readonly seed: number;
  /** What clients did, unless the schedule itself says it. */
  readonly workload: string | undefined;
  readonly invariant: InvariantNumber;
  readonly schedule: Schedule;
};

export function formatSchedule(stored: StoredSchedule): string {
  const { layer, seed, workload, invariant, schedule } = stored;
  const lines = [`layer ${layer}`, `seed ${seed}`, `invariant ${invariant}`];
  if (workload !== undefined) lines.push(`workload ${workload}`);
  for (const site of [...schedule.keys()].sort()) {
    const choices = [...(schedule.get(site) ?? [])].map(([at, choice]) => `${at}=${choice}`);
    if (choices.length > 0) lines.push(`${site} | ${choices.join(' ')}`);
  }
  return `${lines.join('\n')}\n`;
}

/** @throws SyntaxError naming the line */
export function parseSchedule(text: string): StoredSchedule {
  const facts = new Map<string, string>();
  const schedule = new Map<string, ReadonlyMap<number, number>>();
  for (const [at, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const [site = '', choices] = line.split(' | ');
    if (choices === undefined) {
      const [name = '', value = ''] = site.split(' ');
      facts.set(name, value);
      continue;
    }
    const pairs = choices
      .trim()
      .split(' ')
      .map((pair) => pair.split('=').map(Number));
    if (pairs.some((pair) => pair.length !== 2 || !pair.every(Number.isSafeInteger))) {
      throw new SyntaxError(`line ${at + 1}: '${choices}' must be pairs like 17=1`);
    }
    schedule.set(site, new Map(pairs.map(([ordinal = 0, choice = 0]) => [ordinal, choice])));
  }
  return {
    layer: facts.get('layer') ?? 'raft',
    seed: Number(facts.get('seed') ?? 0),
    workload: facts.get('workload'),
    invariant: Number(facts.get('invariant') ?? 0) as InvariantNumber,
    schedule,
  };
}
