import type { Command } from 'commander';
import type { CommonOptions } from '../../connection.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { openQueue } from './jobs.ts';

const view: View = {
  columns: [
    field('QUEUE', 'queue'),
    field('READY', 'ready'),
    field('DELAYED', 'delayed'),
    field('ACTIVE', 'active'),
    field('DEAD', 'dead'),
    field('WORKERS', 'workers'),
  ],
};

async function stats(name: string, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  await withSession(options, async (context) => {
    const { ready, delayed, active, dead, workers } = await openQueue(context, name).stats();
    await output.printOne({ queue: name, ready, delayed, active, dead, workers }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ["conclave queue stats mail -o 'template={{ready}}'", 'one number, for a monitor'],
  ])
    .argument('<queue>', 'the queue')
    .action(stats);
}
