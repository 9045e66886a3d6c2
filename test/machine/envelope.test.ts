import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCommand } from '../../server/command.ts';
import { Envelopes, openCommand, openMembership } from '../../server/envelope.ts';
import { encodeMembership } from '../../server/membership.ts';
import { DecodeError } from '../../server/mvcc/binary.ts';
import { plain } from '../support/plain.ts';
import { command } from './arbitraries.ts';
import { clusterCommand, membership } from './arbitrary-members.ts';
import { put } from './requests.ts';

const incarnation = fc.bigInt(1n, 2n ** 63n - 1n);
const count = fc.oneof(fc.nat(), fc.maxSafeNat());
const call = fc.option(
  fc.record({ id: fc.bigInt(0n, 2n ** 63n - 1n), sequence: count, floor: count }),
  { nil: undefined },
);
const anyCommand = fc.oneof(command, clusterCommand);

test('an envelope gives back who proposed what, for which call', () => {
  fc.assert(
    fc.property(incarnation, count, anyCommand, call, (of, request, given, client) => {
      const data = new Envelopes(of).sealCommand(request, given, client);
      expect(plain(openCommand(data))).toEqual(
        plain({ origin: { incarnation: of, request }, client, command: given }),
      );
    }),
    { numRuns: 1000 },
  );
  fc.assert(
    fc.property(incarnation, count, membership, call, (of, request, given, client) => {
      const data = new Envelopes(of).sealMembership(request, given, client);
      expect(openMembership(data)).toEqual({
        origin: { incarnation: of, request },
        client,
        command: given,
      });
    }),
  );
});

test('a life knows its own envelopes, and no others', () => {
  fc.assert(
    fc.property(incarnation, incarnation, count, call, (mine, other, request, client) => {
      const own = new Envelopes(mine);
      expect(own.requestOf(own.sealCommand(request, put('a'), client))).toBe(request);
      const foreign = new Envelopes(other).sealCommand(request, put('a'), client);
      expect(own.requestOf(foreign)).toBe(mine === other ? request : undefined);
    }),
  );
  const own = new Envelopes(1n);
  for (const data of [encodeCommand(put('a')), Buffer.alloc(0), Buffer.of(2, 0)]) {
    expect(own.requestOf(data)).toBeUndefined();
  }
});

test('entries of logs without envelopes are read', () => {
  const bare = { origin: undefined, client: undefined };
  fc.assert(
    fc.property(anyCommand, (given) => {
      expect(plain(openCommand(encodeCommand(given)))).toEqual(plain({ ...bare, command: given }));
    }),
  );
  expect(openMembership(encodeMembership({ kind: 'member-remove', id: 3n }))).toEqual({
    ...bare,
    command: { kind: 'member-remove', id: 3n },
  });
});

test('an entry as the version before wrote it is read', () => {
  const data = Buffer.from([1, 2, 0, 1, 0x6b, 2, 0x76, 0x77]);
  expect(plain(openCommand(data))).toEqual({
    origin: undefined,
    client: undefined,
    command: plain(put('k', 'vw')),
  });
});

test('no data at all are the request to leave a joint configuration', () => {
  expect(openMembership(Buffer.alloc(0))).toEqual({
    origin: undefined,
    client: undefined,
    command: { kind: 'member-leave' },
  });
  expect(() => openCommand(Buffer.alloc(0))).toThrow(DecodeError);
});

test('a change of members is no command, and the other way round', () => {
  const envelopes = new Envelopes(1n);
  const change = envelopes.sealMembership(1, { kind: 'member-remove', id: 3n }, undefined);
  expect(() => openCommand(change)).toThrow(DecodeError);
  expect(() => openMembership(envelopes.sealCommand(1, put('a'), undefined))).toThrow(DecodeError);
});

test('any bytes are an entry or are refused with a typed error', () => {
  const data = fc
    .tuple(fc.integer({ min: 0, max: 3 }), fc.nat({ max: 3 }), fc.uint8Array({ maxLength: 60 }))
    .map(([format, flags, rest]) => Uint8Array.of(format, flags, ...rest));
  fc.assert(
    fc.property(data, (bytes) => {
      for (const open of [openCommand, openMembership]) {
        try {
          open(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(DecodeError);
        }
      }
    }),
    { numRuns: 2000 },
  );
});

test('an envelope costs little more than what it says', () => {
  const bare = encodeCommand(put('key', 'value')).length;
  const envelopes = new Envelopes(2n ** 62n);
  expect(envelopes.sealCommand(1_000_000, put('key', 'value'), undefined).length).toBe(bare + 13);
  const client = { id: 1n, sequence: 300, floor: 290 };
  expect(envelopes.sealCommand(1_000_000, put('key', 'value'), client).length).toBe(bare + 25);
});
