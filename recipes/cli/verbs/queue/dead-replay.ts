import type { Command } from 'commander';
import { exitCodes } from '../../exit-codes.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { addSelection, countView, type SelectionOptions, selectDead } from './dead-selection.ts';
import { openQueue } from './jobs.ts';

async function replay(
  name: string,
  ids: readonly string[],
  options: SelectionOptions,
): Promise<void> {
  const output = new Output(options.output);
  const selection = selectDead(ids, options);
  await withSession(options, async (context) => {
    const { dead } = openQueue(context, name);
    let replayed = 0;
    for (const which of selection) replayed += await dead.replay(which);
    await output.printOne({ replayed }, countView('REPLAYED', 'replayed'));
    if (replayed < ids.length) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  addSelection(
    asVerb(command, [
      [
        'conclave queue dead replay mail --error ETIMEDOUT',
        'those that failed for one reason, with all attempts ahead of them',
      ],
      ['conclave queue dead replay mail ID', 'one'],
    ]),
  ).action(replay);
}
