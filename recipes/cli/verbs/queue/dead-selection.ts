/** Which dead letters a verb acts on. */
import type { Command } from 'commander';
import type { DeadLetter } from '../../../queue/dead-letters.ts';
import type { CommonOptions } from '../../connection.ts';
import { usageError } from '../../failure.ts';
import type { View } from '../../output/output.ts';
import { field } from '../../output/table.ts';

export type SelectionOptions = CommonOptions & {
  readonly all?: boolean;
  readonly error?: string;
};

export const addSelection = (command: Command): Command =>
  command
    .argument('<queue>', 'the queue')
    .argument('[id...]', 'the jobs')
    .option('--all', 'every dead job')
    .option('--error <text>', 'every dead job whose reason or last error contains this text');

export const countView = (title: string, name: string): View => ({
  columns: [field(title, name)],
});

type Selection = readonly (string | ((letter: DeadLetter<Uint8Array>) => boolean))[];

/** @throws CliError unless exactly one way of selecting was used */
export function selectDead(ids: readonly string[], options: SelectionOptions): Selection {
  const { all, error } = options;
  const ways = [ids.length > 0, all === true, error !== undefined].filter(Boolean).length;
  if (ways !== 1) throw usageError('say which: ids, --error TEXT or --all');
  if (ids.length > 0) return ids;
  if (error === undefined) return [() => true];
  return [(letter) => letter.reason.includes(error) || (letter.lastError ?? '').includes(error)];
}
