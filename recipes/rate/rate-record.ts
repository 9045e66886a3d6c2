/** What a rate limit keeps in its one key. */
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';
import type { Rate } from './gcra.ts';

export type RateState = Rate & {
  /** Theoretical arrival time, in milliseconds since 1970. */
  readonly tatMs: number;
  /** The attempt that wrote it: a repetition recognises itself. */
  readonly by: string;
};

export const encodeRate = (state: RateState): string => JSON.stringify({ v: 1, ...state });

/** Undefined for what is no state of a rate limit. */
export function decodeRate(kv: Pick<KeyValue, 'value'>): RateState | undefined {
  const { rate, perMs, burst, tatMs, by } = parseRecord(kv) as RateState;
  const numbers = [rate, perMs, burst, tatMs];
  const valid = numbers.every((number) => Number.isFinite(number)) && typeof by === 'string';
  return valid ? { rate, perMs, burst, tatMs, by } : undefined;
}
