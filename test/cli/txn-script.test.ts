import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseTxnDocument } from '../../recipes/cli/verbs/kv/txn-document.ts';
import { parseTxnScript } from '../../recipes/cli/verbs/kv/txn-script.ts';
import { splitWords } from '../../recipes/cli/verbs/kv/txn-words.ts';
import { type Client, connect } from '../../sdk/index.ts';
import { TestServer } from '../support/servers.ts';

const words = (line: string): string[] => splitWords(line).map((word) => word.toString('utf8'));

test.each([
  ['put a b', ['put', 'a', 'b']],
  [`put "two words" 'single "quoted"'`, ['put', 'two words', 'single "quoted"']],
  ['put a ""', ['put', 'a', '']],
  ['put "a\\tb\\u0041\\"" x', ['put', 'a\tbA"', 'x']],
  ['  put   a=b"c d"e  ', ['put', 'a=bc de']],
])('words of %j', (line, expected) => {
  expect(words(line)).toEqual(expected);
});

test('quoted parts may hold any byte', () => {
  expect(splitWords('"\\xff\\x00"')).toEqual([Buffer.from([0xff, 0])]);
});

test.each(['"open', '"\\xzz"', '"\\'])('words of %j are refused', (line) => {
  expect(() => splitWords(line)).toThrow(SyntaxError);
});

describe('what cannot be read is named by its line', () => {
  test.each([
    ['mod(a) ~ "1"', /line 1.*a condition is/],
    ['mod(a) = "x"', /line 1.*compared with a number/],
    ['lease(a) = "zz"', /line 1.*hexadecimal/],
    ['\nputt a b', /line 2.*an operation is put/],
    ['\nput a', /line 2.*put takes KEY VALUE/],
    ['\nput a b c', /line 2.*quotes around/],
    ['\nget a --prefx', /line 2.*not --prefx/],
    ['\n\ndel', /line 3.*KEY/],
    ['\nget a --limit x', /line 2.*--limit takes a number/],
  ])('%j', (script, message) => {
    expect(() => parseTxnScript(script)).toThrow(message);
  });

  test.each([
    ['{', /as JSON/],
    ['[]', /an object/],
    ['{"iff":[]}', /"iff".*if, then, else/],
    [
      '{"if":[{"key":"a","target":"mod","operator":"==","operand":1}]}',
      /if\[0\].target.*modRevision/,
    ],
    ['{"if":[{"key":"a","target":"version","operator":"=","operand":1}]}', /if\[0\].operator/],
    [
      '{"if":[{"key":"a","target":"version","operator":"==","operand":1.5}]}',
      /1.5 as if\[0\].operand/,
    ],
    ['{"then":[{"put":{"key":"a"}}]}', /then\[0\].put.value/],
    ['{"then":[{"get":{"key":"a","prefix":"b"}}]}', /one of 'key', 'prefix' and 'from'/],
    ['{"else":[{"del":{}}]}', /else\[0\].*put, get, delete/],
    ['{"then":[{"put":{"key":"a","value":"b","leese":"1"}}]}', /"leese"/],
  ])('%s', (document, message) => {
    expect(() => parseTxnDocument(document)).toThrow(message);
  });
});

describe('etcdctl reads the same', () => {
  let etcd: TestServer;
  let client: Client;
  beforeAll(async () => {
    etcd = await TestServer.start('etcd');
    client = await connect(etcd.endpoint);
  });
  afterAll(async () => {
    await client.close();
    await etcd.stop();
  });

  const state = async () => {
    const { kvs } = await client.kv.list({ all: true });
    return kvs.map((kv) => [kv.key, Buffer.from(kv.value).toString('utf8')]);
  };
  const reset = async (): Promise<void> => {
    await client.kv.delete({ all: true });
    await client.kv.put('k', 'v');
    await client.kv.put('with space', '1');
  };
  const byEtcdctl = (script: string): boolean => {
    const output = execFileSync('etcdctl', ['--endpoints', etcd.endpoint, 'txn'], {
      input: `${script}\n\n`,
      encoding: 'utf8',
      env: { ...process.env, ETCDCTL_API: '3' },
    });
    return output.includes('SUCCESS');
  };
  const byUs = async (script: string): Promise<boolean> => {
    const { compares, onSuccess, onFailure } = parseTxnScript(script);
    const txn = client.kv
      .txn()
      .if(...compares)
      .then(...onSuccess)
      .else(...onFailure);
    return (await txn.commit()).succeeded;
  };

  test.each([
    'value("k") = "v"\n\nput a "b c"\nput "d e" f\n\nput no no\n',
    'val("k") != "v"\n\nput no no\n\nput else "x"\ndel k\n',
    'version("k") = "1"\ncreate("missing") = "0"\n\ndel k --prefix\n\n',
    'mod("with space") > "0"\n\nput "\\x41" "tab\\there"\n\n',
    'c("k") < "999999"\nver("k") > "0"\n\nput p/1 1\nput p/2 2\nget p/ --prefix\n\n',
    '\nput unconditional yes\n\n',
  ])('%j', async (script) => {
    await reset();
    const theirs = byEtcdctl(script);
    const theirState = await state();
    await reset();
    expect(await byUs(script)).toBe(theirs);
    expect(await state()).toEqual(theirState);
  });
});
