import type { Command } from 'commander';
import type { WatchEvent, WatchNotice, WatchOptions } from '../../../../sdk/watch.ts';
import {
  countOption,
  durationOption,
  type RangeOptions,
  revisionOption,
  selectRange,
} from '../../arguments.ts';
import {
  addConnectionOptions,
  addOutputOption,
  type ConnectionOptions,
  type OutputOptions,
} from '../../connection.ts';
import { exitCodes, signalExitCode } from '../../exit-codes.ts';
import { usageError } from '../../failure.ts';
import { type JsonObject, keyValueJson } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { bytesColumn, bytesOf } from '../../output/views.ts';
import { note } from '../../stderr.ts';
import { addExamples } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { runForEvent } from './event-command.ts';

type Options = Pick<ConnectionOptions, 'endpoints' | 'directory'> &
  OutputOptions &
  RangeOptions & {
    readonly rev?: bigint;
    readonly prevKv?: boolean;
    readonly puts?: boolean;
    readonly deletes?: boolean;
    readonly progress?: boolean;
    readonly count?: number;
    readonly timeout?: number;
    readonly exec?: string;
  };

const view: View = {
  columns: [
    field('REVISION', 'revision'),
    field('TYPE', 'type'),
    bytesColumn('KEY', 'key'),
    bytesColumn('VALUE', 'value'),
  ],
  raw: (row) => Buffer.concat([bytesOf(row, 'value'), Buffer.from('\n')]),
};

const eventJson = (event: WatchEvent): JsonObject => ({
  type: event.type,
  revision: `${event.kv.modRevision}`,
  ...keyValueJson(event.kv),
  previous: event.previous === undefined ? null : keyValueJson(event.previous),
});

function watchOptions(options: Options): WatchOptions {
  if (options.puts && options.deletes) {
    throw usageError('--puts and --deletes exclude each other; both are shown by default');
  }
  return {
    prevKv: options.prevKv ?? false,
    puts: !options.deletes,
    deletes: !options.puts,
    progress: options.progress ?? false,
    ...(options.rev === undefined ? {} : { from: options.rev }),
  };
}

async function watch(key: string | undefined, options: Options): Promise<void> {
  const output = new Output(options.output);
  const range = selectRange(key, options);
  const settings = watchOptions(options);
  const wanted = options.count ?? Number.POSITIVE_INFINITY;

  await withClient(
    {
      ...(options.endpoints === undefined ? {} : { endpoints: options.endpoints }),
      ...(options.directory === undefined ? {} : { directory: options.directory }),
    },
    async ({ kv }) => {
      await using watching = kv.watch(range, settings);
      const stop = (): void => void watching.cancel();
      const interrupt = (_signal: string, signalNumber: number): void => {
        process.exitCode = signalExitCode(signalNumber);
        stop();
      };
      const timer = options.timeout === undefined ? undefined : setTimeout(stop, options.timeout);
      process.once('SIGINT', interrupt);
      process.once('SIGTERM', interrupt);
      let seen = 0;
      try {
        for await (const notice of watching) {
          for (const event of eventsOf(notice)) {
            const row = eventJson(event);
            if (options.exec === undefined) await output.row(row, view);
            else await runForEvent(options.exec, row);
            seen += 1;
            if (seen >= wanted) break;
          }
          if (seen >= wanted) break;
        }
      } finally {
        clearTimeout(timer);
        process.removeListener('SIGINT', interrupt);
        process.removeListener('SIGTERM', interrupt);
      }
      if (options.count !== undefined && seen < wanted) process.exitCode ??= exitCodes.notFound;
    },
  );
}

function eventsOf(notice: WatchNotice): readonly WatchEvent[] {
  switch (notice.type) {
    case 'events':
      return notice.events;
    case 'progress':
      note(`nothing more up to revision ${notice.revision}`);
      return [];
    case 'reset':
      note(
        `events up to revision ${notice.compactRevision} are compacted: the keys as of revision ${notice.revision} follow as puts`,
      );
      return notice.kvs.map((kv) => ({ type: 'put', kv }));
  }
}

export function define(command: Command): void {
  addExamples(addOutputOption(addConnectionOptions(command)), [
    ['conclave kv watch config/ --prefix', 'until interrupted'],
    ['conclave kv watch config/ --prefix --rev 4711 -o jsonl', 'from a past revision, as JSON'],
    [
      'conclave kv watch ready --count 1 --timeout 30s',
      'exit code 3 when nothing happened in time',
    ],
    [
      "conclave kv watch config/ --prefix --exec 'systemctl reload app'",
      'a command for each event: the event as JSON on its stdin, CONCLAVE_KEY and more in its environment',
    ],
  ])
    .argument('[key]', 'the key, or where the range starts')
    .option('--prefix', 'every key that starts with KEY')
    .option('--from', 'every key from KEY on')
    .option('--to <key>', 'every key from KEY up to this one, which is left out')
    .option('--all', 'every key')
    .option('--rev <revision>', 'start with this revision (default: the next one)', revisionOption)
    .option('--prev-kv', 'also what each key held before')
    .option('--puts', 'only writes')
    .option('--deletes', 'only deletions')
    .option('--progress', 'also say now and then that nothing happened (on stderr)')
    .option('--count <n>', 'end after so many events', countOption(1))
    .option('--timeout <duration>', 'end after this time', durationOption)
    .option('--exec <command>', 'run this shell command for each event instead of printing it')
    .action(watch);
}
