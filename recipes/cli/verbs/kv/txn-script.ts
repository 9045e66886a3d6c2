/**
 * The language of `etcdctl txn`: conditions, an empty line, operations for success, an empty line,
 * operations for failure.
 *
 *     mod("counter") = "17"
 *
 *     put counter 18
 *
 *     get counter
 */
import type { Key, KeyRange } from '../../../../sdk/keys.ts';
import {
  type CompareOperator,
  type CompareTarget,
  type Operation,
  op,
} from '../../../../sdk/txn.ts';
import { usageError } from '../../failure.ts';
import { makeCompare, type TxnParts } from './txn-parts.ts';
import { splitWords } from './txn-words.ts';

const targets: Readonly<Record<string, CompareTarget>> = {
  c: 'createRevision',
  create: 'createRevision',
  m: 'modRevision',
  mod: 'modRevision',
  ver: 'version',
  version: 'version',
  val: 'value',
  value: 'value',
  lease: 'lease',
};

const operators: Readonly<Record<string, CompareOperator>> = {
  '=': '==',
  '==': '==',
  '!=': '!=',
  '<': '<',
  '>': '>',
};

/** One word that may be quoted. */
function oneWord(text: string, what: string): Buffer {
  const [word, ...more] = splitWords(text);
  if (word === undefined || more.length > 0) throw new SyntaxError(`${what} must be one word`);
  return word;
}

function parseCompare(line: string) {
  const match =
    /^(\w+)\s*\(\s*("(?:[^"\\]|\\.)*"|'[^']*'|[^)]*?)\s*\)\s*(!=|==|=|<|>)\s*(.+)$/s.exec(line);
  const target = targets[match?.[1] ?? ''];
  const operator = operators[match?.[3] ?? ''];
  if (match === null || target === undefined || operator === undefined) {
    throw new SyntaxError('a condition is create|mod|version|value|lease("KEY") =|!=|<|> "VALUE"');
  }
  const key = oneWord(match[2] ?? '', 'the key');
  const operand = oneWord((match[4] ?? '').trim(), 'the value');
  if (target === 'value') return makeCompare(target, key, operator, operand);
  const digits = operand.toString('utf8');
  const hex = target === 'lease';
  if (!(hex ? /^[0-9a-fA-F]{1,16}$/ : /^\d{1,19}$/).test(digits)) {
    throw new SyntaxError(
      hex
        ? 'a lease is compared with its id in hexadecimal'
        : `${match[1]} is compared with a number`,
    );
  }
  return makeCompare(target, key, operator, BigInt(hex ? `0x${digits}` : digits));
}

type Flags = ReadonlyMap<string, string>;

/** Which flags an operation knows, and whether they take a value. */
const knownFlags: Readonly<Record<string, Readonly<Record<string, boolean>>>> = {
  put: { lease: true, 'prev-kv': false, 'ignore-value': false, 'ignore-lease': false },
  get: {
    prefix: false,
    'from-key': false,
    'keys-only': false,
    'count-only': false,
    limit: true,
    rev: true,
  },
  del: { prefix: false, 'from-key': false, 'prev-kv': false },
};

function separate(verb: string, words: readonly Buffer[]): { rest: Buffer[]; flags: Flags } {
  const rest: Buffer[] = [];
  const flags = new Map<string, string>();
  const known = knownFlags[verb] ?? {};
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? Buffer.alloc(0);
    const match = /^--([a-z-]+)(?:=(.*))?$/s.exec(word.toString('utf8'));
    if (match === null) {
      rest.push(word);
      continue;
    }
    const name = match[1] ?? '';
    const takesValue = known[name];
    if (takesValue === undefined) {
      throw new SyntaxError(`${verb} knows --${Object.keys(known).join(', --')}, not --${name}`);
    }
    let value = match[2] ?? '';
    if (takesValue && match[2] === undefined) {
      index += 1;
      value = words[index]?.toString('utf8') ?? '';
    }
    flags.set(name, value);
  }
  return { rest, flags };
}

function numberFlag(flags: Flags, name: string): number | undefined {
  const text = flags.get(name);
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value))
    throw new SyntaxError(`--${name} takes a number, not '${text}'`);
  return value;
}

function rangeOf(verb: string, rest: readonly Buffer[], flags: Flags): Key | KeyRange {
  const [key, end, ...more] = rest;
  if (key === undefined || more.length > 0) throw new SyntaxError(`${verb} takes KEY [END]`);
  if (flags.has('prefix')) return { prefix: key };
  if (flags.has('from-key')) return { from: key };
  return end === undefined ? key : { from: key, to: end };
}

function parseOperation(line: string): Operation {
  const [first, ...words] = splitWords(line);
  const verb = first?.toString('utf8') ?? '';
  const { rest, flags } = separate(verb, words);
  switch (verb) {
    case 'put': {
      const [key, value, ...more] = rest;
      const needed = flags.has('ignore-value') ? 1 : 2;
      if (key === undefined || rest.length !== needed || more.length > 0) {
        throw new SyntaxError('put takes KEY VALUE; put quotes around what has spaces');
      }
      const lease = flags.get('lease');
      if (lease !== undefined && !/^[0-9a-fA-F]{1,16}$/.test(lease)) {
        throw new SyntaxError(`--lease takes an id in hexadecimal, not '${lease}'`);
      }
      return op.put(key, value ?? '', {
        prevKv: flags.has('prev-kv'),
        ignoreValue: flags.has('ignore-value'),
        ignoreLease: flags.has('ignore-lease'),
        ...(lease === undefined ? {} : { lease: BigInt(`0x${lease}`) }),
      });
    }
    case 'get': {
      const revision = numberFlag(flags, 'rev');
      const limit = numberFlag(flags, 'limit');
      const read = revision === undefined ? {} : { revision: BigInt(revision) };
      const range = rangeOf(verb, rest, flags);
      if (flags.has('count-only')) return op.count(range, read);
      return op.list(range, {
        ...read,
        keysOnly: flags.has('keys-only'),
        ...(limit === undefined ? {} : { limit }),
      });
    }
    case 'del':
      return op.delete(rangeOf(verb, rest, flags), { prevKv: flags.has('prev-kv') });
    default:
      throw new SyntaxError('an operation is put KEY VALUE, get KEY or del KEY');
  }
}

/** @throws CliError that names the line */
export function parseTxnScript(script: string): TxnParts {
  const sections: string[][] = [[]];
  const numbers: number[][] = [[]];
  script.split(/\r?\n/).forEach((line, index) => {
    const text = line.trim();
    if (text !== '') {
      sections.at(-1)?.push(text);
      numbers.at(-1)?.push(index + 1);
    } else if (sections.length < 3) {
      sections.push([]);
      numbers.push([]);
    }
  });
  const read = <T>(section: number, parse: (line: string) => T): T[] =>
    (sections[section] ?? []).map((line, index) => {
      try {
        return parse(line);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        throw usageError(
          `cannot read line ${numbers[section]?.[index]} of the transaction, ${JSON.stringify(line)}: ${error.message}`,
        );
      }
    });
  return {
    compares: read(0, parseCompare),
    onSuccess: read(1, parseOperation),
    onFailure: read(2, parseOperation),
  };
}
