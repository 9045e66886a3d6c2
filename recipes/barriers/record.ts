/** Reading what the barriers keep, leniently: what somebody else wrote there reads as nothing. */
import type { KeyValue } from '../../sdk/kv.ts';

export type Stored = Pick<KeyValue, 'value'> | null | undefined;

export const textOf = (kv: Stored): string => Buffer.from(kv?.value ?? '').toString('utf8');

export function parseRecord(kv: Stored): Readonly<Record<string, unknown>> {
  if (!kv) return {};
  try {
    const parsed: unknown = JSON.parse(textOf(kv));
    if (typeof parsed === 'object' && parsed !== null) {
      return parsed as Readonly<Record<string, unknown>>;
    }
  } catch {
    // Not ours.
  }
  return {};
}

/** A whole number, 0 or more. */
export const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
