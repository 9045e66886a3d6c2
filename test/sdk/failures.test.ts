import { Status } from 'nice-grpc-common';
import { expect, test } from 'vitest';
import { ConclaveError, type ErrorCode, isConclaveError } from '../../sdk/errors.ts';
import { errorOfText, judge } from '../../sdk/failures.ts';
import type { Effect } from '../../sdk/methods.ts';
import { TransportFailure } from '../../sdk/transport.ts';
import { type FaultCode, faults } from '../../server/faults.ts';

const status = (code: number, details: string, sent = true) =>
  new TransportFailure('status', code, details, sent);

const known: Partial<Record<FaultCode, ErrorCode>> = {
  'empty-key': 'INVALID_ARGUMENT',
  'key-not-found': 'KEY_NOT_FOUND',
  'too-many-operations': 'TOO_MANY_OPERATIONS',
  'duplicate-key': 'DUPLICATE_KEY',
  compacted: 'COMPACTED',
  'future-revision': 'FUTURE_REVISION',
  'no-space': 'NO_SPACE',
  'lease-not-found': 'LEASE_NOT_FOUND',
  'lease-exists': 'LEASE_EXISTS',
  'lease-ttl-too-large': 'INVALID_ARGUMENT',
  'member-not-found': 'NOT_FOUND',
  'request-too-large': 'TOO_LARGE',
  'too-many-requests': 'RESOURCE_EXHAUSTED',
  'auth-failed': 'UNAUTHENTICATED',
  'permission-denied': 'PERMISSION_DENIED',
  'invalid-auth-token': 'UNAUTHENTICATED',
  'no-leader': 'UNREACHABLE',
  corrupt: 'CORRUPT',
  'not-capable': 'FAILED_PRECONDITION',
};

test.each(Object.entries(known))('the refusal %s has the code %s', (fault, code) => {
  const row = faults[fault as FaultCode];
  const { error } = judge(status(row.status, row.message), 'write');
  expect(error).toMatchObject({ code, outcome: 'not-applied', message: row.message });
  expect(errorOfText(`rpc error: code = X desc = ${row.message}`).code).toBe(code);
});

type Row = readonly [
  what: string,
  failure: TransportFailure,
  effect: Effect,
  expected: { code: ErrorCode; outcome: string; retryable: boolean; again: boolean },
];
const unavailable = (sent: boolean) => status(Status.UNAVAILABLE, 'Connection dropped', sent);
const unknownOutcome = {
  code: 'OUTCOME_UNKNOWN',
  outcome: 'unknown',
  retryable: false,
  again: false,
} as const;
const unreachable = {
  code: 'UNREACHABLE',
  outcome: 'not-applied',
  retryable: true,
  again: true,
} as const;

test.each<Row>([
  ['a read on a broken link', unavailable(true), 'read', unreachable],
  ['a write on a broken link', unavailable(true), 'write', unknownOutcome],
  ['a write never sent', unavailable(false), 'write', unreachable],
  [
    'a repeatable write on a broken link',
    unavailable(true),
    'repeatable',
    { ...unknownOutcome, again: true },
  ],
  [
    'a write during a change of leader',
    status(14, faults['leader-changed'].message),
    'write',
    unknownOutcome,
  ],
  ['a write the server gave up on', status(14, faults.timeout.message), 'write', unknownOutcome],
  ['a write to a stopping server', status(14, faults.stopped.message), 'write', unknownOutcome],
  ['a write without a leader', status(14, faults['no-leader'].message), 'write', unreachable],
  [
    'a write refused as too many',
    status(2, faults['too-many-requests'].message),
    'write',
    { code: 'RESOURCE_EXHAUSTED', outcome: 'not-applied', retryable: true, again: true },
  ],
  [
    'a write reset by the transport',
    status(Status.INTERNAL, 'RST_STREAM'),
    'write',
    unknownOutcome,
  ],
  [
    'a write with an unexplained failure',
    status(Status.UNKNOWN, 'boom'),
    'write',
    { code: 'INTERNAL', outcome: 'unknown', retryable: false, again: false },
  ],
  [
    'a read that timed out',
    new TransportFailure('timeout', 4, 'late', true),
    'read',
    { code: 'TIMEOUT', outcome: 'not-applied', retryable: true, again: false },
  ],
  [
    'a write that timed out',
    new TransportFailure('timeout', 4, 'late', true),
    'write',
    { code: 'TIMEOUT', outcome: 'unknown', retryable: true, again: false },
  ],
  [
    'a write that timed out unsent',
    new TransportFailure('timeout', 4, 'late', false),
    'write',
    { code: 'TIMEOUT', outcome: 'not-applied', retryable: true, again: false },
  ],
])('%s', (_, failure, effect, { again, ...error }) => {
  const verdict = judge(failure, effect);
  expect(verdict.again).toBe(again);
  expect(verdict.error).toMatchObject(error);
});

test('an earlier attempt that may have taken effect is not forgotten', () => {
  const { error } = judge(unavailable(false), 'repeatable', undefined, true);
  expect(error.outcome).toBe('unknown');
});

test('errors are recognised across copies of the package, and by code', () => {
  const error = new ConclaveError('COMPACTED', 'gone');
  expect(isConclaveError(error)).toBe(true);
  expect(isConclaveError(error, 'COMPACTED')).toBe(true);
  expect(isConclaveError(error, 'TIMEOUT')).toBe(false);
  const foreign = Object.assign(new Error('gone'), {
    code: 'COMPACTED',
    [Symbol.for('conclave.error')]: true,
  });
  expect(isConclaveError(foreign, 'COMPACTED')).toBe(true);
  expect(isConclaveError(new Error('gone'))).toBe(false);
  expect(error.remedy).toMatch(/revision/);
});
