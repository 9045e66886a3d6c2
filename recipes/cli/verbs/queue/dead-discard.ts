import type { Command } from 'commander';
import { exitCodes } from '../../exit-codes.ts';
import { usageError } from '../../failure.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { addSelection, countView, type SelectionOptions, selectDead } from './dead-selection.ts';
import { openQueue } from './jobs.ts';

async function discard(
  name: string,
  ids: readonly string[],
  options: SelectionOptions & { readonly yes?: boolean },
): Promise<void> {
  const output = new Output(options.output);
  const selection = selectDead(ids, options);
  if (options.all && !options.yes) {
    throw usageError(`this deletes every dead job of '${name}': add --yes if that is meant`);
  }
  await withSession(options, async (context) => {
    const { dead } = openQueue(context, name);
    let discarded = 0;
    for (const which of selection) discarded += await dead.discard(which);
    await output.printOne({ discarded }, countView('DISCARDED', 'discarded'));
    if (discarded < ids.length) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  addSelection(
    asVerb(command, [
      ['conclave queue dead discard mail ID', 'one; its payload is gone'],
      ['conclave queue dead discard mail --all --yes', 'every one'],
    ]),
  )
    .option('--yes', 'go ahead with --all without asking')
    .action(discard);
}
