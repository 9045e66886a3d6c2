/** Reading what recipes keep as JSON, leniently: what somebody else wrote there reads as nothing. */
import type { KeyValue } from '../../sdk/kv.ts';

export type Stored = Pick<KeyValue, 'value'> | null | undefined;

export const textOf = (kv: Stored): string => Buffer.from(kv?.value ?? '').toString('utf8');

/** The fields of an object; none when there is no object. What they hold is still to be checked. */
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
