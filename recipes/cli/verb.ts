import type { Command } from 'commander';
import { addCommonOptions } from './connection.ts';

/** What a verb's module exports: it adds arguments, options and the action to its command. */
export type VerbModule = { define(command: Command): void };

export type Example = readonly [command: string, explanation: string];

/** Adds examples to the end of the help. */
export function addExamples(command: Command, examples: readonly Example[]): Command {
  const lines = examples.map(([line, explanation]) => `  # ${explanation}\n  ${line}`);
  return command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}

/** A verb that asks something of the store and prints the answer. */
export const asVerb = (command: Command, examples: readonly Example[]): Command =>
  addExamples(addCommonOptions(command), examples);
