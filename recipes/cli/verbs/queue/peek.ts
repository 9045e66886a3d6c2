import type { Command } from 'commander';
import { countOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { jobJson, jobView, openQueue } from './jobs.ts';

async function peek(
  name: string,
  options: CommonOptions & { readonly limit: number },
): Promise<void> {
  const output = new Output(options.output);
  await withSession(options, async (context) => {
    const jobs = (await openQueue(context, name).peek(options.limit)).map(jobJson);
    await output.print({ jobs }, jobs, jobView);
    if (jobs.length === 0) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  asVerb(command, [['conclave queue peek mail --limit 10', 'the next ten, without taking them']])
    .argument('<queue>', 'the queue')
    .option('--limit <n>', 'so many, at most 100', countOption(1), 1)
    .action(peek);
}
