import type { Command } from 'commander';
import { countOption, durationOption, readStdin } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { usageError } from '../../failure.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withSession } from '../../with-session.ts';
import { openQueue } from './jobs.ts';

type Options = CommonOptions & {
  readonly delay?: number;
  readonly key?: string;
  readonly maxAttempts?: number;
};

const view: View = { columns: [field('ID', 'id'), field('DUPLICATE', 'duplicate')] };

async function readPayload(payload: string | undefined): Promise<Buffer> {
  if (payload !== undefined && payload !== '-') return Buffer.from(payload);
  if (payload === undefined && process.stdin.isTTY) {
    throw usageError("PAYLOAD is missing; '-' reads it from the terminal");
  }
  return await readStdin();
}

async function push(name: string, payload: string | undefined, options: Options): Promise<void> {
  const output = new Output(options.output);
  const bytes = await readPayload(payload);
  await withSession(options, async (context) => {
    const pushed = await openQueue(context, name).push(bytes, {
      ...(options.delay === undefined ? {} : { delay: options.delay }),
      ...(options.key === undefined ? {} : { key: options.key }),
      ...(options.maxAttempts === undefined ? {} : { maxAttempts: options.maxAttempts }),
    });
    await output.printOne({ id: pushed.id, duplicate: pushed.duplicate }, view);
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [`conclave queue push mail '{"to":"x@example.com"}'`, 'prints the id of the job'],
    ['conclave queue push images < picture.json', 'the payload from stdin, byte for byte'],
    [
      'conclave queue push mail "$m" --delay 5m --key welcome-42',
      'later, and only once while one with this key is unfinished',
    ],
  ])
    .addHelpText(
      'after',
      '\nThe payload is kept as it is. Workers of the library read JSON unless they were given a codec.',
    )
    .argument('<queue>', 'the queue')
    .argument('[payload]', "what the job is; '-' or nothing reads it from stdin")
    .option('--delay <duration>', 'not before this much later', durationOption)
    .option('--key <text>', 'add nothing while an unfinished job has this key')
    .option(
      '--max-attempts <n>',
      'give up after so many attempts (default: the workers say)',
      countOption(1),
    )
    .action(push);
}
