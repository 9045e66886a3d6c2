/** Requests in few words; what is left out is as it is when a client leaves it out. */
import type { Command } from '../../server/command.ts';
import type {
  Compare,
  DeleteRangeRequest,
  Operation,
  PutRequest,
  RangeRequest,
  TxnRequest,
} from '../../server/mvcc/types.ts';
import { bytes } from '../support/plain.ts';

export const FROM_KEY = '\0';

export const put = (
  key: string,
  value = '',
  options: Partial<Omit<PutRequest, 'kind' | 'key' | 'value'>> = {},
): PutRequest => ({
  kind: 'put',
  key: bytes(key),
  value: bytes(value),
  lease: 0n,
  prevKv: false,
  ignoreValue: false,
  ignoreLease: false,
  ...options,
});

export const del = (key: string, rangeEnd = '', prevKv = false): DeleteRangeRequest => ({
  kind: 'delete-range',
  key: bytes(key),
  rangeEnd: bytes(rangeEnd),
  prevKv,
});

export const get = (
  key: string,
  rangeEnd = '',
  options: Partial<Omit<RangeRequest, 'kind' | 'key' | 'rangeEnd'>> = {},
): RangeRequest => ({
  kind: 'range',
  key: bytes(key),
  rangeEnd: bytes(rangeEnd),
  limit: 0,
  revision: 0,
  sortOrder: 'none',
  sortTarget: 'key',
  keysOnly: false,
  countOnly: false,
  uncounted: false,
  minModRevision: 0,
  maxModRevision: 0,
  minCreateRevision: 0,
  maxCreateRevision: 0,
  ...options,
});

export const everything: RangeRequest = get('\0', FROM_KEY);

export const txn = (
  compare: readonly Compare[],
  success: readonly Operation[],
  failure: readonly Operation[] = [],
): TxnRequest => ({ kind: 'txn', compare, success, failure });

export const when = (
  target: 'version' | 'create' | 'mod',
  key: string,
  result: Compare['result'],
  operand: number,
  rangeEnd = '',
): Compare => ({ key: bytes(key), rangeEnd: bytes(rangeEnd), result, target, operand });

export const whenValue = (
  key: string,
  result: Compare['result'],
  operand: string,
  rangeEnd = '',
): Compare => ({
  key: bytes(key),
  rangeEnd: bytes(rangeEnd),
  result,
  target: 'value',
  operand: bytes(operand),
});

export const whenLease = (key: string, result: Compare['result'], operand: bigint): Compare => ({
  key: bytes(key),
  rangeEnd: bytes(''),
  result,
  target: 'lease',
  operand,
});

export const grant = (id: bigint, ttlSeconds = 60): Command => ({
  kind: 'lease-grant',
  id,
  ttlSeconds,
});

export const revoke = (id: bigint): Command => ({ kind: 'lease-revoke', id });

export const compact = (revision: number): Command => ({
  kind: 'compact',
  revision,
  physical: false,
});
