/** The table of mutants, as text for people at a terminal and as Markdown. */
import type { Kill } from './hunt.ts';
import type { Mutant } from './mutant.ts';

export type Result = { readonly mutant: Mutant; readonly kills: readonly Kill[] };
export type Line = { readonly text: string; readonly markdown: string };

const NAME_WIDTH = 66;

const line = (number: string, name: string, budget: string, seeds: string, by: string): Line => ({
  text: [number.padStart(3), name.padEnd(NAME_WIDTH), budget.padEnd(4), seeds.padStart(5), by].join(
    '  ',
  ),
  markdown: `| ${number} | ${name} | ${budget} | ${seeds} | ${by} |\n`,
});

export const columns: Line = {
  ...line('no.', 'mutant', 'due', 'seeds', 'found by'),
  markdown: '| | Mutant | Due | Seeds | Found by |\n|--:|---|---|--:|---|\n',
};

export function row({ mutant, kills }: Result): Line {
  const number = `${mutant.number}`;
  if (mutant.exempt !== undefined)
    return line(number, mutant.name, '', '', `none: ${mutant.exempt}`);
  const seeds = kills.map((kill) => (kill.kind === 'killed' ? kill.seeds : undefined));
  const by = kills.map((kill) =>
    kill.kind === 'killed' ? kill.by : `SURVIVED ${kill.by}${kill.detail}`,
  );
  return line(
    number,
    mutant.name,
    dueOf(mutant),
    seeds.find(Boolean)?.toString() ?? '',
    by.join('; '),
  );
}

/** The seeds that it may take, and D when a test must find it. */
function dueOf({ killers }: Mutant): string {
  const budgets = killers.map((killer) => (killer.kind === 'simulation' ? killer.budget : 'D'));
  return [...new Set(budgets)].join('+');
}
