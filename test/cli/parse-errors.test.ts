import { Command } from 'commander';
import { expect, test } from 'vitest';
import { countOption } from '../../recipes/cli/arguments.ts';
import { parseErrorText } from '../../recipes/cli/parse-errors.ts';

const parse = (argv: readonly string[]): string => {
  let text = '';
  const command = new Command('x')
    .exitOverride()
    .configureOutput({
      outputError: (said) => {
        text = parseErrorText(said);
      },
    })
    .argument('<count>', 'how many', countOption(1))
    .option('-l, --limit <n>', 'so many', countOption(1))
    .requiredOption('--dir <path>', 'where');
  expect(() => command.parse(argv, { from: 'user' })).toThrow();
  return text;
};

test.each([
  [['--dir', 'd'], 'COUNT is missing'],
  [['1'], '--dir <path> is missing'],
  [['1', '--dir'], '--dir needs its value: --dir <path>'],
  [['0', '--dir', 'd'], "cannot use '0' as COUNT: it must be a whole number of at least 1"],
  [
    ['1', '-l', 'x', '--dir', 'd'],
    "cannot use 'x' as --limit: it must be a whole number of at least 1",
  ],
  [['1', '--dir', 'd', '--limti'], "unknown option '--limti'\n(Did you mean --limit?)"],
])('%j: %s', (argv, said) => {
  expect(parse(argv)).toBe(said);
});
