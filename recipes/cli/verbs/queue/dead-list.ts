import type { Command } from 'commander';
import { countOption } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { Output } from '../../output/output.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { deadJobJson, deadJobView, openQueue } from './jobs.ts';

type Options = CommonOptions & { readonly limit: number; readonly after?: string };

async function list(name: string, options: Options): Promise<void> {
  const output = new Output(options.output);
  await withSession(options, async (context) => {
    const { dead } = openQueue(context, name);
    const page = await dead.list({
      limit: options.limit,
      ...(options.after === undefined ? {} : { after: options.after }),
    });
    const jobs = page.map(deadJobJson);
    await output.print({ jobs }, jobs, deadJobView);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave queue dead list mail', 'why each was given up'],
    ['conclave queue dead list mail --limit 100 --after ID', 'the next page'],
  ])
    .argument('<queue>', 'the queue')
    .option('--limit <n>', 'so many, at most 100', countOption(1), 100)
    .option('--after <id>', 'continue after this job')
    .action(list);
}
