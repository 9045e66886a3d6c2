/** What the command line asks for. */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { projectRoot } from '../support/servers.ts';
import type { Row } from './row.ts';
import { rows } from './rows.ts';
import { type BenchSystem, benchSystem, ownSystem, peers } from './systems.ts';

export type Options = {
  readonly isQuick: boolean;
  readonly repetitions: number;
  readonly durationMs: number;
  readonly systems: readonly BenchSystem[];
  readonly rows: readonly Row[];
  /** Default: those of each row's own cases. */
  readonly concurrencies: readonly number[] | undefined;
  readonly members: number | undefined;
  /** Where to write the figures. Undefined only where they come from a file. */
  readonly json: string | undefined;
  /** Take the figures from this file instead of measuring. */
  readonly from: string | undefined;
  readonly publishes: boolean;
};

export const usage = `npm run bench -- [options]
  --quick              once, briefly and cold: shows that everything runs, the figures say little
  --rows a,b           of ${rows.map((row) => row.name).join(', ')}
  --systems a,b        of conclave, etcd, zookeeper, redis, nats, etcd+sdk, conclave+etcd3
  --reps N             repetitions, of which the median counts (5)
  --ms N               how long each measurement takes (1500)
  --concurrency N,M    other numbers of callers, where a row has callers
  --members N          on so many members, where a row allows it
  --json FILE          where the figures are written to: a list with one object for each workload and
                       system (test/bench/results/TIME.json)
  --publish            also write tables and plots into server/docs/speed.md: only when asked for, so
                       that what is published was chosen
  --from FILE          take the figures from a file of --json instead of measuring`;

export function parseOptions(commandLine: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...commandLine],
    options: {
      quick: { type: 'boolean', default: false },
      rows: { type: 'string' },
      systems: { type: 'string' },
      reps: { type: 'string' },
      ms: { type: 'string' },
      concurrency: { type: 'string' },
      members: { type: 'string' },
      json: { type: 'string' },
      publish: { type: 'boolean', default: false },
      from: { type: 'string' },
    },
  });
  if (values.publish && values.quick)
    throw new Error('--publish: figures of --quick say too little to be published');
  const { rows: someRows, systems: someSystems, concurrency, members } = values;
  if (values.publish && (someRows ?? someSystems ?? concurrency ?? members) !== undefined)
    throw new Error('--publish: the page has all rows and systems, not some of them');
  return {
    isQuick: values.quick,
    repetitions: values.reps === undefined ? (values.quick ? 1 : 5) : count('reps', values.reps),
    durationMs: values.ms === undefined ? (values.quick ? 400 : 1_500) : count('ms', values.ms),
    systems: values.systems?.split(',').map(benchSystem) ?? [ownSystem, ...peers],
    rows: values.rows?.split(',').map(rowNamed) ?? rows,
    concurrencies: values.concurrency?.split(',').map((text) => count('concurrency', text)),
    members: values.members === undefined ? undefined : count('members', values.members),
    json: values.json ?? (values.from === undefined ? resultsFile() : undefined),
    from: values.from,
    publishes: values.publish,
  };
}

/** A file of its own for each run; the folder is ignored by git. */
function resultsFile(): string {
  const time = new Date().toISOString().slice(0, 19).replaceAll(':', '-');
  return join(projectRoot, 'test/bench/results', `${time}.json`);
}

function rowNamed(name: string): Row {
  const found = rows.find((row) => row.name === name);
  if (found !== undefined) return found;
  const known = rows.map((row) => row.name).join(', ');
  throw new Error(`--rows: unknown row ${name}; known are ${known}`);
}

function count(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name}: must be a whole number above 0, got ${text}`);
  return value;
}
