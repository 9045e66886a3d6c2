import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { connectOptions, resolveTarget } from '../../recipes/cli/connection.ts';
import { exitCodeOf } from '../../recipes/cli/exit-codes.ts';
import { alignedTable, field, tabSeparated } from '../../recipes/cli/output/table.ts';
import { compileTemplate } from '../../recipes/cli/output/template.ts';
import { bytesCell, cell } from '../../recipes/cli/output/text.ts';
import { toYaml } from '../../recipes/cli/output/yaml.ts';
import { ConclaveError } from '../../sdk/errors.ts';

test('yaml: nested lists and objects, empty ones, and strings that look like something else', () => {
  const document = {
    kvs: [
      { key: 'yes', value: '- x: #\n', lease: null, list: [[1, 2], []] },
      { key: 'null', inner: { a: {}, 'odd key': true } },
    ],
    none: [],
    count: 2,
  };
  expect(toYaml(document)).toBe(`kvs:
  - key: "yes"
    value: "- x: #\\n"
    lease: null
    list:
      -
        - 1
        - 2
      - []
  - key: "null"
    inner:
      a: {}
      "odd key": true
none: []
count: 2
`);
});

test('cells hold no control characters, whatever the store holds', () => {
  expect(cell('a\tb\nc\\d\u001b[2J\u202e')).toBe('a\\tb\\nc\\\\d\\u{1b}[2J\\u{202e}');
  expect(bytesCell(Buffer.from([0xff]))).toBe('base64:/w==');
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      expect(cell(text)).not.toMatch(/[\p{Cc}\u2028\u2029]/u);
    }),
  );
});

test('tables align by what a terminal shows', () => {
  const columns = [field('KEY', 'key'), field('VALUE', 'value')];
  const rows = [
    { key: '鍵', value: 'x' },
    { key: 'long key', value: null },
  ];
  expect(alignedTable(columns, rows)).toBe('KEY       VALUE\n鍵        x\nlong key  \n');
  expect(alignedTable(columns, [])).toBe('');
  expect(tabSeparated(columns, { key: 'a', value: 'b' })).toBe('a\tb\n');
});

describe('templates', () => {
  test('fields, inner fields, escapes, and one line each', () => {
    const render = compileTemplate('{{key}}\\t{{ meta.host }}');
    expect(render({ key: 'k', meta: { host: 'h' } })).toBe('k\th\n');
    expect(compileTemplate('{{key}}\\0')({ key: 'k' })).toBe('k\0');
    expect(compileTemplate('{{lease}}')({ lease: null })).toBe('\n');
    expect(compileTemplate('{{list}}')({ list: [1] })).toBe('[1]\n');
  });

  test('an unknown field is named, with the known ones', () => {
    expect(() => compileTemplate('{{kye}}')({ key: 'k', value: 'v' })).toThrow(
      "'kye' is none of key, value",
    );
  });
});

test('where the store is found', () => {
  const environment = {
    CONCLAVE_ENDPOINTS: 'c:1',
    ETCDCTL_ENDPOINTS: 'e:1',
    CONCLAVE_DIRECTORY: 'd',
  };
  expect(resolveTarget({}, {})).toEqual({ endpoints: '127.0.0.1:2379' });
  expect(resolveTarget({}, environment)).toEqual({ endpoints: 'c:1' });
  expect(resolveTarget({}, { ...environment, CONCLAVE_ENDPOINTS: '' })).toEqual({
    endpoints: 'e:1',
  });
  expect(resolveTarget({}, { CONCLAVE_DIRECTORY: 'd' })).toEqual({ directory: 'd' });
  // A flag that is given and empty is a mistake, such as a variable of a script that is not set.
  expect(() => resolveTarget({ endpoints: '' }, environment)).toThrow(/--endpoints/);
  expect(resolveTarget({ directory: 'x' }, environment)).toEqual({ directory: 'x' });
  expect(resolveTarget({ endpoints: 'x:1' }, environment)).toEqual({ endpoints: 'x:1' });
});

test('a verb that answers looks for a server shortly, unless it is told how long', () => {
  expect(connectOptions({ endpoints: 'a:1' })).toEqual({ endpoints: 'a:1', connectTimeout: 2_000 });
  expect(connectOptions({ endpoints: 'a:1,b:1' })).toMatchObject({ connectTimeout: 4_000 });
  expect(connectOptions({ endpoints: 'a,b,c,d,e,f' })).toMatchObject({ connectTimeout: 10_000 });
  expect(connectOptions({ directory: 'd' })).toMatchObject({ connectTimeout: 10_000 });
  expect(connectOptions({ endpoints: 'a:1', connectTimeoutMs: 7 })).toMatchObject({
    connectTimeout: 7,
  });
  expect(connectOptions({ endpoints: 'a:1', connectTimeoutMs: 7, timeout: 5 })).toMatchObject({
    connectTimeout: 5,
    requestTimeout: 5,
  });
});

test('a store in use elsewhere is unreachable, a write without an answer has a code of its own', () => {
  expect(exitCodeOf(new ConclaveError('DATA_DIRECTORY_IN_USE', 'taken'))).toBe(5);
  expect(exitCodeOf(new ConclaveError('TIMEOUT', 'late'))).toBe(5);
  expect(exitCodeOf(new ConclaveError('TIMEOUT', 'late', { outcome: 'unknown' }))).toBe(6);
});
