import { expect, test } from 'vitest';
import { type GateFacts, refusalOf } from '../../server/transport/gatekeeper.ts';
import { HelloError, helloHeaders, parseHello } from '../../server/transport/hello.ts';
import { type Hello, PROTOCOL_VERSION } from '../../server/transport/transport.ts';

const CLUSTER = 0xc1n;
const HERE = 0xa1n;
const PEER = 0xa2n;
const REMOVED = 0xa3n;
const STRANGER = 0xa9n;

const hello: Hello = {
  protocolVersion: PROTOCOL_VERSION,
  clusterId: CLUSTER,
  from: PEER,
  to: HERE,
  incarnation: 7n,
  session: 70n,
  configurationIndex: 50,
  urls: ['http://10.0.0.2:2380'],
};

const facts: GateFacts = {
  clusterId: CLUSTER,
  memberId: HERE,
  configurationIndex: 50,
  isMember: (id) => id === PEER,
  isRemoved: (id) => id === REMOVED,
  knownIncarnation: () => undefined,
  connectedSession: () => undefined,
};

test('lets in a member that it knows, whoever of the two is behind', () => {
  for (const configurationIndex of [0, 49, 50, 51]) {
    expect(refusalOf({ ...hello, configurationIndex }, facts)).toBeUndefined();
  }
});

test('lets a member come back: same data directory, connected by the same process or not', () => {
  const known = { ...facts, knownIncarnation: () => 7n };
  expect(refusalOf(hello, known)).toBeUndefined();
  expect(refusalOf(hello, { ...known, connectedSession: () => 70n })).toBeUndefined();
});

test('lets in who was added by a change that is not applied here yet', () => {
  // A leader that was added while this member lagged, and a joiner that was told the members.
  expect(refusalOf({ ...hello, from: STRANGER, configurationIndex: 51 }, facts)).toBeUndefined();
});

test.each([
  [
    'a newer protocol',
    { protocolVersion: PROTOCOL_VERSION + 1 },
    {},
    'other-protocol',
    `member a2 speaks version ${PROTOCOL_VERSION + 1} of the protocol between members and member a1 version ${PROTOCOL_VERSION}. Upgrade member a1.`,
  ],
  [
    'an older protocol',
    { protocolVersion: PROTOCOL_VERSION - 1 },
    {},
    'other-protocol',
    `member a2 speaks version ${PROTOCOL_VERSION - 1} of the protocol between members and member a1 version ${PROTOCOL_VERSION}. Upgrade member a2.`,
  ],
  [
    'another cluster',
    { clusterId: 0xc2n },
    {},
    'other-cluster',
    'member a1 belongs to cluster c1 and member a2 to cluster c2. Check the peer URLs in --initial-cluster; a data directory cannot move from one cluster to another.',
  ],
  [
    'a call for another member',
    { to: REMOVED },
    {},
    'wrong-receiver',
    'member a2 means to reach member a3, but this address is that of member a1. Two members cannot share a peer URL; correct one with "conclave member update".',
  ],
  [
    'its own id',
    { from: HERE },
    {},
    'own-id',
    "member a1 was called by its own id. Two members run with the same identity: give each its own --name and data directory, and never start from a copy of another member's directory.",
  ],
  [
    'a removed member, however new its knowledge',
    { from: REMOVED, configurationIndex: 99 },
    {},
    'removed-member',
    'member a3 was removed from cluster c1, for good. To bring the machine back, add it with "conclave member add" and start it with an empty data directory.',
  ],
  [
    'a stranger that knows no more than this member',
    { from: STRANGER, configurationIndex: 50 },
    {},
    'unknown-member',
    'member a9 is not a member of cluster c1. Add it with "conclave member add" before it is started.',
  ],
  [
    'a wiped disk',
    {},
    { knownIncarnation: (): bigint => 8n },
    'other-incarnation',
    'member a2 has come back with another data directory and may have forgotten what it promised. Start it with its old directory, or put a new member in its place with "conclave member replace".',
  ],
  [
    'a second process with one identity',
    {},
    { knownIncarnation: (): bigint => 7n, connectedSession: (): bigint => 71n },
    'already-connected',
    "member a2 is connected already, from another process. Two processes run with the same identity: stop one of them, and never start from a copy of another member's directory.",
  ],
] as const)('refuses %s, and says what to do', (_, change, known, code, sentence) => {
  expect(refusalOf({ ...hello, ...change }, { ...facts, ...known })).toEqual({ code, sentence });
});

test('what may be a mistake of the address is said before what may be one of the member', () => {
  const wrong = { ...hello, clusterId: 0xc2n, to: REMOVED, from: STRANGER };
  expect(refusalOf(wrong, facts)?.code).toBe('other-cluster');
});

test('a hello survives its headers', () => {
  const extremes: Hello = { ...hello, from: 2n ** 64n - 1n, session: 1n, urls: [] };
  for (const each of [hello, extremes]) expect(parseHello(helloHeaders(each))).toEqual(each);
});

test.each([
  ['conclave-protocol', '-1', 'a decimal number'],
  ['conclave-protocol', '1e3', 'a decimal number'],
  ['conclave-configuration', '9'.repeat(16), 'a decimal number'],
  ['conclave-cluster', 'c1', '16 hexadecimal digits'],
  ['conclave-from', undefined, '16 hexadecimal digits'],
  ['conclave-to', 'G'.repeat(16), '16 hexadecimal digits'],
  ['conclave-incarnation', `${'a'.repeat(16)} `, '16 hexadecimal digits'],
  ['conclave-session', ['a'.repeat(16)], '16 hexadecimal digits'],
  ['conclave-urls', 'nonsense', 'up to 16 URLs'],
  ['conclave-urls', Array(17).fill('http://a:1').join(','), 'up to 16 URLs'],
  ['conclave-urls', `http://${'a'.repeat(5_000)}`, 'up to 16 URLs'],
])('refuses the header %s: %s', (name, value, allowed) => {
  const headers = { ...helloHeaders(hello), [name]: value };
  expect(() => parseHello(headers)).toThrow(HelloError);
  expect(() => parseHello(headers)).toThrow(`${name}: it must be ${allowed}, and is`);
});
