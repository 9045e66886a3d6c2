/** A misspelled option must not silently mean its absence. */
import { ConclaveError, invalidArgument } from './errors.ts';

/** Edits (insert, delete, replace) from one text to the other: Levenshtein's distance. */
const distance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [line, character] of [...from].entries()) {
    const next = [line + 1];
    for (let column = 1; column <= to.length; column++) {
      const replaced = (row[column - 1] ?? 0) + (to[column - 1] === character ? 0 : 1);
      next.push(Math.min(replaced, (row[column] ?? 0) + 1, (next[column - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
};

const nearest = (name: string, known: readonly string[]): string | undefined =>
  known.toSorted(
    (one, other) =>
      distance(name.toLowerCase(), one.toLowerCase()) -
      distance(name.toLowerCase(), other.toLowerCase()),
  )[0];

/**
 * @param known every option there is; typed as a record, so that none is forgotten
 * @param prefix where the options belong, such as 'retry.'
 * @throws ConclaveError INVALID_ARGUMENT that names the unknown option and the nearest known one
 */
export const refuseUnknownOptions = <Options extends object>(
  options: Options,
  known: Readonly<Record<keyof Required<Options>, true>>,
  prefix = '',
): void => {
  if (typeof options !== 'object' || options === null) {
    throw invalidArgument(prefix.slice(0, -1), options, 'an object of options');
  }
  const names = Object.keys(known);
  const unknown = Object.keys(options).find((name) => !names.includes(name));
  if (unknown === undefined) return;
  throw new ConclaveError(
    'INVALID_ARGUMENT',
    `There is no option '${prefix}${unknown}': did you mean '${prefix}${nearest(unknown, names)}'? Known are ${names.join(', ')}`,
  );
};
