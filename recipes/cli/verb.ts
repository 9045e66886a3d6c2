import type { Command } from 'commander';
import { addCommonOptions } from './connection.ts';

/** What a verb's module exports: it adds arguments, options and the action to its command. */
export type VerbModule = { define(command: Command): void };

/** The whole name of a verb, as it is typed. */
export const pathOf = (command: Command): string =>
  command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;

export type Example = readonly [command: string, explanation: string];

/** Adds examples to the end of the help. */
export function addExamples(command: Command, examples: readonly Example[]): Command {
  const lines = examples.map(([line, explanation]) => `  # ${explanation}\n  ${line}`);
  return command.addHelpText('after', `\nExamples:\n${lines.join('\n')}`);
}

/** A verb that asks something of the store and prints the answer. */
export const asVerb = (command: Command, examples: readonly Example[]): Command =>
  addExamples(addCommonOptions(command), examples);
