/**
 * Makes a schedule smaller that breaks an invariant, until what is left can be read: delta debugging
 * (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002) over the choices,
 * the coarse ones first. A smaller schedule counts only if it breaks the same invariant.
 */
import type { Schedule } from './decisions.ts';

type Choice = { readonly site: string; readonly at: number; readonly choice: number };

/** Sites by what people want to get rid of first. */
const CLASSES: readonly ((site: string) => boolean)[] = [
  (site) => site.startsWith('nemesis '),
  (site) => site.startsWith('client '),
  (site) => /^network (lose|double|replay|clog)/.test(site),
  (site) => site.startsWith('disk '),
  (site) => site.startsWith('protocol '),
  (site) => site.startsWith('network '),
  (site) => site.startsWith('knobs '),
];

export type ShrinkOptions = {
  /** Whether the schedule still breaks the invariant. */
  readonly fails: (schedule: Schedule) => Promise<boolean>;
  /** Whether there is time left. */
  readonly goOn: () => boolean;
};

export async function shrink(schedule: Schedule, options: ShrinkOptions): Promise<Schedule> {
  let kept = flatten(schedule);
  for (let before = Number.POSITIVE_INFINITY; kept.length < before && options.goOn(); ) {
    before = kept.length;
    for (const isOfClass of CLASSES) {
      const others = kept.filter(({ site }) => !isOfClass(site));
      const candidates = kept.filter(({ site }) => isOfClass(site));
      kept = [...others, ...(await minimize(candidates, others, options))];
    }
  }
  return assemble(kept);
}

/** The candidates that are needed beside the others. */
async function minimize(
  candidates: readonly Choice[],
  others: readonly Choice[],
  { fails, goOn }: ShrinkOptions,
): Promise<readonly Choice[]> {
  let kept = candidates;
  if (kept.length > 0 && (await fails(assemble(others)))) return [];
  for (let parts = 2; kept.length > 0 && parts <= kept.length && goOn(); ) {
    const size = Math.ceil(kept.length / parts);
    const without = (at: number) => [...kept.slice(0, at), ...kept.slice(at + size)];
    let smaller: readonly Choice[] | undefined;
    for (let at = 0; at < kept.length && goOn(); at += size) {
      if (!(await fails(assemble([...others, ...without(at)])))) continue;
      smaller = without(at);
      break;
    }
    if (smaller !== undefined) {
      kept = smaller;
      parts = Math.max(2, parts - 1);
    } else if (size === 1) break;
    else parts = Math.min(kept.length, parts * 2);
  }
  return kept;
}

function flatten(schedule: Schedule): readonly Choice[] {
  return [...schedule].flatMap(([site, choices]) =>
    [...choices].map(([at, choice]) => ({ site, at, choice })),
  );
}

function assemble(choices: readonly Choice[]): Schedule {
  const schedule = new Map<string, Map<number, number>>();
  for (const { site, at, choice } of choices) {
    const known = schedule.get(site);
    if (known === undefined) schedule.set(site, new Map([[at, choice]]));
    else known.set(at, choice);
  }
  return schedule;
}
