import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  electionPrefix,
  escapeName,
  lockPrefix,
  nameBytesMax,
  queueKeys,
  randomId,
  servicePrefix,
  sortableHex,
  unescapeName,
} from '../../recipes/names.ts';

const name = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 50 })
  .filter((text) => !/\p{Cs}/u.test(text) && Buffer.byteLength(text) <= nameBytesMax);

test('every name is one level, and comes back as it was', () => {
  fc.assert(
    fc.property(name, (text) => {
      const level = escapeName(text, 'name');
      expect(level).not.toMatch(/[/\p{Cc}]/u);
      expect(unescapeName(level)).toBe(text);
    }),
  );
});

test('no name’s keys are under another name’s prefix', () => {
  fc.assert(
    fc.property(name, name, (one, other) => {
      fc.pre(one !== other);
      for (const prefix of [lockPrefix, electionPrefix, servicePrefix]) {
        expect(prefix(one).startsWith(prefix(other))).toBe(false);
      }
      expect(queueKeys(one).root.startsWith(queueKeys(other).root)).toBe(false);
    }),
  );
});

test('the documented layout is the layout', () => {
  expect(lockPrefix('orders/42')).toBe('conclave/lock/orders%2F42/');
  expect(electionPrefix('a')).toBe('conclave/election/a/');
  expect(servicePrefix('100%')).toBe('conclave/service/100%25/');
  expect(queueKeys('mail')).toEqual({
    name: 'mail',
    root: 'conclave/queue/mail/',
    job: 'conclave/queue/mail/job/',
    ready: 'conclave/queue/mail/ready/',
    at: 'conclave/queue/mail/at/',
    claim: 'conclave/queue/mail/claim/',
    dead: 'conclave/queue/mail/dead/',
    result: 'conclave/queue/mail/result/',
    dedup: 'conclave/queue/mail/dedup/',
    worker: 'conclave/queue/mail/worker/',
    push: 'conclave/queue/mail/push/',
    limits: 'conclave/queue/mail/limits',
    line: 'conclave/queue/mail/line/',
    turn: 'conclave/queue/mail/turn/',
    pass: 'conclave/queue/mail/pass/',
    slot: 'conclave/queue/mail/slot/',
    gate: 'conclave/queue/mail/gate',
    rate: 'conclave/queue/mail/rate',
    cancel: 'conclave/queue/mail/cancel/',
    blocked: 'conclave/queue/mail/blocked/',
    wait: 'conclave/queue/mail/wait/',
    child: 'conclave/queue/mail/child/',
    freed: 'conclave/queue/mail/freed/',
  });
});

test('names that cannot be keys are refused with what is allowed', () => {
  expect(() => escapeName('', 'name')).toThrow(/'name'.*1 to 200 bytes/);
  expect(() => escapeName('é'.repeat(101), 'name')).toThrow(/202 bytes/);
  expect(() => escapeName('\ud800', 'key')).toThrow(/'key'/);
  expect(() => escapeName(7 as unknown as string, 'name')).toThrow(/7/);
});

test('text that escaping never makes is left alone', () => {
  expect(unescapeName('50%')).toBe('50%');
});

test('sortable numbers sort as numbers do', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 63n), fc.bigInt(0n, 2n ** 63n), (a, b) => {
      expect(sortableHex(a) < sortableHex(b)).toBe(a < b);
    }),
  );
});

test('ids use all of their bits', () => {
  expect(randomId(() => 0)).toBe('0000000000000000');
  expect(randomId(() => 1 - 2 ** -53)).toBe('ffffffffffffffff');
});
