/**
 * A transaction as JSON:
 *
 *     { "if":   [{ "key": "counter", "target": "modRevision", "operator": "==", "operand": "17" }],
 *       "then": [{ "put": { "key": "counter", "value": "18" } }],
 *       "else": [{ "get": { "key": "counter" } }] }
 */
import type { Key, KeyRange } from '../../../../sdk/keys.ts';
import {
  type Compare,
  type CompareOperator,
  type CompareTarget,
  type Operation,
  op,
} from '../../../../sdk/txn.ts';
import { usageError } from '../../failure.ts';
import { makeCompare, type TxnParts } from './txn-parts.ts';

type Fields = Readonly<Record<string, unknown>>;

const refuse = (where: string, given: unknown, allowed: string) =>
  usageError(`cannot use ${JSON.stringify(given) ?? 'nothing'} as ${where}: it must be ${allowed}`);

function fieldsOf(value: unknown, where: string, known: readonly string[]): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refuse(where, value, 'an object');
  }
  for (const name of Object.keys(value)) {
    if (!known.includes(name)) throw refuse(where, name, `one of the fields ${known.join(', ')}`);
  }
  return value as Fields;
}

function bytes(fields: Fields, name: string, where: string): Key | undefined {
  const text = fields[name];
  const encoded = fields[`${name}Base64`];
  if (typeof encoded === 'string') return Buffer.from(encoded, 'base64');
  if (text === undefined || typeof text === 'string') return text;
  throw refuse(`${where}.${name}`, text, 'a text');
}

function whole(fields: Fields, name: string, where: string): bigint | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value);
  if (typeof value === 'string' && /^\d{1,19}$/.test(value)) return BigInt(value);
  throw refuse(`${where}.${name}`, value, 'a whole number, or one as a text');
}

function hex(fields: Fields, name: string, where: string): bigint | undefined {
  const value = fields[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'string' && /^[0-9a-fA-F]{1,16}$/.test(value)) return BigInt(`0x${value}`);
  throw refuse(`${where}.${name}`, value, 'an id in hexadecimal, as a text');
}

function truth(fields: Fields, name: string, where: string): boolean {
  const value = fields[name] ?? false;
  if (typeof value !== 'boolean') throw refuse(`${where}.${name}`, value, 'true or false');
  return value;
}

const rangeFields = [
  'key',
  'keyBase64',
  'prefix',
  'prefixBase64',
  'from',
  'fromBase64',
  'to',
  'toBase64',
];

function range(fields: Fields, where: string): Key | KeyRange {
  const key = bytes(fields, 'key', where);
  const prefix = bytes(fields, 'prefix', where);
  const from = bytes(fields, 'from', where);
  const to = bytes(fields, 'to', where);
  if ([key, prefix, from].filter((part) => part !== undefined).length !== 1) {
    throw refuse(where, fields, "an object with one of 'key', 'prefix' and 'from'");
  }
  if (key !== undefined) return key;
  if (prefix !== undefined) return { prefix };
  return to === undefined ? { from: from ?? '' } : { from: from ?? '', to };
}

const targets = ['createRevision', 'modRevision', 'version', 'lease', 'value'] as const;
const operators = ['==', '!=', '<', '>'] as const;

function compareOf(value: unknown, where: string): Compare {
  const fields = fieldsOf(value, where, [
    ...['key', 'keyBase64', 'target', 'operator', 'operand', 'operandBase64'],
  ]);
  const key = bytes(fields, 'key', where);
  if (key === undefined) throw refuse(`${where}.key`, undefined, 'a text');
  const target: CompareTarget | undefined = targets.find((name) => name === fields['target']);
  if (target === undefined) throw refuse(`${where}.target`, fields['target'], targets.join(', '));
  const operator: CompareOperator | undefined = operators.find(
    (sign) => sign === fields['operator'],
  );
  if (operator === undefined) {
    throw refuse(`${where}.operator`, fields['operator'], operators.join(' '));
  }
  const operand =
    target === 'value'
      ? bytes(fields, 'operand', where)
      : target === 'lease'
        ? hex(fields, 'operand', where)
        : whole(fields, 'operand', where);
  if (operand === undefined) throw refuse(`${where}.operand`, undefined, 'what to compare with');
  return makeCompare(target, key, operator, operand);
}

function putOf(value: unknown, where: string): Operation {
  const fields = fieldsOf(value, where, [
    ...[
      'key',
      'keyBase64',
      'value',
      'valueBase64',
      'lease',
      'prevKv',
      'ignoreValue',
      'ignoreLease',
    ],
  ]);
  const key = bytes(fields, 'key', where);
  if (key === undefined) throw refuse(`${where}.key`, undefined, 'a text');
  const ignoreValue = truth(fields, 'ignoreValue', where);
  const content = bytes(fields, 'value', where);
  if (content === undefined && !ignoreValue) throw refuse(`${where}.value`, undefined, 'a text');
  const lease = hex(fields, 'lease', where);
  return op.put(key, content ?? '', {
    ignoreValue,
    prevKv: truth(fields, 'prevKv', where),
    ignoreLease: truth(fields, 'ignoreLease', where),
    ...(lease === undefined ? {} : { lease }),
  });
}

function getOf(value: unknown, where: string): Operation {
  const fields = fieldsOf(value, where, [
    ...rangeFields,
    'revision',
    'limit',
    'keysOnly',
    'countOnly',
  ]);
  const revision = whole(fields, 'revision', where);
  const limit = whole(fields, 'limit', where);
  const read = revision === undefined ? {} : { revision };
  if (truth(fields, 'countOnly', where)) return op.count(range(fields, where), read);
  return op.list(range(fields, where), {
    ...read,
    keysOnly: truth(fields, 'keysOnly', where),
    ...(limit === undefined ? {} : { limit: Number(limit) }),
  });
}

function deleteOf(value: unknown, where: string): Operation {
  const fields = fieldsOf(value, where, [...rangeFields, 'prevKv']);
  return op.delete(range(fields, where), { prevKv: truth(fields, 'prevKv', where) });
}

function operationOf(value: unknown, where: string): Operation {
  const fields = fieldsOf(value, where, ['put', 'get', 'delete']);
  const [kind, ...more] = Object.keys(fields);
  if (more.length > 0) throw refuse(where, value, 'one operation');
  switch (kind) {
    case 'put':
      return putOf(fields['put'], `${where}.put`);
    case 'get':
      return getOf(fields['get'], `${where}.get`);
    case 'delete':
      return deleteOf(fields['delete'], `${where}.delete`);
    default:
      throw refuse(where, value, "an object with 'put', 'get' or 'delete'");
  }
}

function each<T>(value: unknown, where: string, read: (value: unknown, where: string) => T): T[] {
  if (value === undefined) return [];
  if (!Array.isArray(value)) throw refuse(where, value, 'a list');
  return value.map((item, index) => read(item, `${where}[${index}]`));
}

/** @throws CliError that names the field */
export function parseTxnDocument(text: string): TxnParts {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw usageError(`cannot read the transaction as JSON: ${(error as Error).message}`);
  }
  const fields = fieldsOf(document, 'the transaction', ['if', 'then', 'else']);
  return {
    compares: each(fields['if'], 'if', compareOf),
    onSuccess: each(fields['then'], 'then', operationOf),
    onFailure: each(fields['else'], 'else', operationOf),
  };
}
