import fc from 'fast-check';
import { expect, test } from 'vitest';
import { connect } from '../../sdk/connect.ts';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import { Keyspace, prefixEnd } from '../../sdk/keys.ts';
import { parseDuration } from '../../sdk/options.ts';

test.each([
  [0, 0],
  [1.5, 1.5],
  ['500ms', 500],
  ['1.5s', 1_500],
  ['15s', 15_000],
  ['5m', 300_000],
  ['1h', 3_600_000],
  ['2d', 172_800_000],
])('the duration %s is %d ms', (value, ms) => {
  expect(parseDuration(value, 'ttl')).toBe(ms);
});

test.each([-1, Number.NaN, Number.POSITIVE_INFINITY, '', '5', '5 s', '-5s', '5w', null])(
  'the duration %s is refused with the name of its field',
  (value) => {
    expect(() => parseDuration(value as never, 'ttl')).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringMatching(/'ttl'.*'500ms'/),
      }),
    );
  },
);

test.each([
  [{ endpoint: 'x:1' }, "'endpoints'"],
  [{ Directory: './x' }, "'directory'"],
  [{ retry: { retrys: 1 } }, "'retry.retries'"],
  [{ tls: { certificate: '' } }, "'tls.cert'"],
])('unknown options are refused with the nearest one: %j', async (options, nearest) => {
  await expect(connect(options as never)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringContaining(`did you mean ${nearest}`),
  });
});

test('options that are there and undefined are no options', async () => {
  const options = { endpoints: '127.0.0.1:1', connectTimeout: 1, directory: undefined };
  await expect(connect(options as never)).rejects.toMatchObject({ code: 'UNREACHABLE' });
});

test('the end of a prefix is the first key after all that start with it', () => {
  const bytes = fc.uint8Array({ maxLength: 4 });
  fc.assert(
    fc.property(bytes, bytes, (prefix, key) => {
      const end = prefixEnd(prefix);
      const open = end.equals(Buffer.of(0));
      const inside = Buffer.compare(key, prefix) >= 0 && (open || Buffer.compare(key, end) < 0);
      const starts = Buffer.from(key.subarray(0, prefix.length)).equals(prefix);
      expect(inside).toBe(starts);
    }),
  );
  expect(prefixEnd(Buffer.from([0x61, 0xff, 0xff]))).toEqual(Buffer.from('b'));
});

test('spans stay inside the namespace', () => {
  const keyspace = new Keyspace('ns/');
  const span = (range: Parameters<Keyspace['span']>[0]) => {
    const { key, rangeEnd } = keyspace.span(range);
    return [key.toString('latin1'), rangeEnd.toString('latin1')];
  };
  expect(span('a')).toEqual(['ns/a', '']);
  expect(span({ prefix: 'a/' })).toEqual(['ns/a/', 'ns/a0']);
  expect(span({ all: true })).toEqual(['ns/', 'ns0']);
  expect(span({ from: 'a' })).toEqual(['ns/a', 'ns0']);
  expect(span({ from: 'a', to: 'c' })).toEqual(['ns/a', 'ns/c']);
  expect(new Keyspace().span({ all: true })).toEqual({ key: Buffer.of(0), rangeEnd: Buffer.of(0) });
  expect(keyspace.strip(Buffer.from('ns/a')).toString()).toBe('a');
});

test.each([
  ['a:1', ['a:1']],
  ['a, http://b:2/,https://c', ['a:2379', 'b:2', 'c:2379']],
  [
    ['[::1]:5', 'unix:/tmp/x.sock', 'unix:///y'],
    ['[::1]:5', 'unix:/tmp/x.sock', 'unix:/y'],
  ],
])('endpoints %s', (input, targets) => {
  expect(parseEndpoints(input).map(({ target }) => target)).toEqual(targets);
});

test('https endpoints use TLS', () => {
  expect(parseEndpoints('https://a,b').map(({ tls }) => tls)).toEqual([true, false]);
});

test.each(['', 'a:x', 'a b', 'ftp://a', 'a:70000', 'a,,b', 'unix:relative'])(
  'the endpoint "%s" is refused',
  (input) => {
    expect(() => parseEndpoints(input)).toThrow(
      expect.toSatisfy((error: unknown) => isConclaveError(error, 'INVALID_ARGUMENT')),
    );
  },
);
