/** What commander says about a command line it cannot read, in the words of this program. */

/** A sentence as the end of another. */
const ending = (text: string): string =>
  `${text.charAt(0).toLowerCase()}${text.slice(1).replace(/\.$/, '')}`;

const rewritings: readonly (readonly [RegExp, (...parts: string[]) => string])[] = [
  [
    /^command-argument value '(.*)' is invalid for argument '(.+?)'\. (.*)$/s,
    (value = '', name = '', reason = '') =>
      `cannot use '${value}' as ${name.toUpperCase()}: ${ending(reason)}`,
  ],
  [
    /^option '(?:-\w, )?(--[\w-]+).*?' argument '(.*)' is invalid\. (.*)$/s,
    (name = '', value = '', reason = '') => `cannot use '${value}' as ${name}: ${ending(reason)}`,
  ],
  [/^missing required argument '(.+)'$/, (name = '') => `${name.toUpperCase()} is missing`],
  [
    /^option '(?:-\w, )?(--[\w-]+) (<.+>)' argument missing$/,
    (name = '', value = '') => `${name} needs its value: ${name} ${value}`,
  ],
  [
    /^required option '(--[\w-]+) (<.+>)' not specified$/,
    (name = '', value = '') => `${name} ${value} is missing`,
  ],
];

/** @param text as commander gives it, with or without `error: ` before it */
export function parseErrorText(text: string): string {
  const bare = text.replace(/^error: /, '').trimEnd();
  for (const [pattern, rewrite] of rewritings) {
    const match = pattern.exec(bare);
    if (match !== null) return rewrite(...match.slice(1));
  }
  // A verb was left out: commander shows the help of its group.
  return bare === '(outputHelp)' ? 'the verb is missing' : bare;
}
