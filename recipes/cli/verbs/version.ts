import type { Command } from 'commander';
import { addOutputOption, type OutputOptions } from '../connection.ts';
import { outputVersion } from '../output/json.ts';
import { Output, type View } from '../output/output.ts';
import { field } from '../output/table.ts';
import { addExamples } from '../verb.ts';
import { packageVersion } from '../version.ts';

const view: View = { columns: [field('VERSION', 'version'), field('NODE', 'node')] };

async function version(options: OutputOptions): Promise<void> {
  const output = new Output(options.output);
  await output.printOne({ version: packageVersion(), node: process.version, outputVersion }, view);
}

export function define(command: Command): void {
  addExamples(addOutputOption(command), [
    ['conclave version -o json', 'also the version of the JSON that verbs print'],
  ]).action(version);
}
