/** What the runner of the recipes' tests was asked for. */

export type Run = {
  readonly store: 'conclave' | 'etcd';
  readonly members: '1' | '3';
  /** For vitest. */
  readonly rest: readonly string[];
};

const allowed = {
  '--store': ['conclave', 'etcd'],
  '--members': ['1', '3'],
} as const;

type Flag = keyof typeof allowed;

const isFlag = (word: string): word is Flag => Object.hasOwn(allowed, word);

/** What was asked for, or what is wrong with it. */
export function chooseRun(words: readonly string[]): Run | string {
  const chosen: Record<Flag, string> = { '--store': 'conclave', '--members': '1' };
  const rest: string[] = [];
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index] ?? '';
    const [flag = '', given] = word.split(/=(.*)/s);
    if (!isFlag(flag)) {
      rest.push(word);
      continue;
    }
    if (given === undefined) index += 1;
    const value = given ?? words[index] ?? 'nothing';
    const values: readonly string[] = allowed[flag];
    if (!values.includes(value)) return `${flag} must be ${values.join(' or ')}, not '${value}'`;
    chosen[flag] = value;
  }
  return {
    store: chosen['--store'] === 'etcd' ? 'etcd' : 'conclave',
    members: chosen['--members'] === '3' ? '3' : '1',
    rest,
  };
}
