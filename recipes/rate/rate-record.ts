/** What a rate limit keeps in its one key. */
import type { KeyValue } from '../../sdk/kv.ts';
import type { Rate } from './gcra.ts';

export type RateState = Rate & {
  /** Theoretical arrival time, in milliseconds since 1970. */
  readonly tatMs: number;
  /** The attempt that wrote it: a repetition recognises itself. */
  readonly by: string;
};

export const encodeRate = (state: RateState): string => JSON.stringify({ v: 1, ...state });

/** Undefined for what is no state of a rate limit. */
export function decodeRate({ value }: Pick<KeyValue, 'value'>): RateState | undefined {
  try {
    const { rate, perMs, burst, tatMs, by } = JSON.parse(Buffer.from(value).toString('utf8'));
    const numbers = [rate, perMs, burst, tatMs];
    const valid = numbers.every((number) => Number.isFinite(number)) && typeof by === 'string';
    return valid ? { rate, perMs, burst, tatMs, by } : undefined;
  } catch {
    return undefined;
  }
}
