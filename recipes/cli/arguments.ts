/** Readers of arguments and options. Each refuses by name and says what is allowed. */
import { InvalidArgumentError } from 'commander';
import { isConclaveError } from '../../sdk/errors.ts';
import type { Key, KeyRange } from '../../sdk/keys.ts';
import { parseDuration } from '../../sdk/options.ts';
import { usageError } from './failure.ts';

/** In milliseconds. */
export function durationOption(text: string): number {
  try {
    return parseDuration(text, 'duration');
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    const hint = /^0*[1-9]\d*$/.test(text) ? `; did you mean ${text}s?` : '';
    throw new InvalidArgumentError(`It must be a duration such as 500ms, 15s, 5m or 1h${hint}`);
  }
}

/** A whole number of at least `min`. */
export const countOption =
  (min: number) =>
  (text: string): number => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!Number.isSafeInteger(value) || value < min) {
      throw new InvalidArgumentError(`It must be a whole number of at least ${min}.`);
    }
    return value;
  };

const LARGEST_INT64 = 2n ** 63n - 1n;

/** A revision: a positive whole number. */
export function revisionOption(text: string): bigint {
  const value = /^\d{1,19}$/.test(text) ? BigInt(text) : 0n;
  if (value < 1n || value > LARGEST_INT64) {
    throw new InvalidArgumentError('It must be a revision: a positive whole number.');
  }
  return value;
}

/** A lease, session or member id, as this program prints it. */
export function idOption(text: string): bigint {
  const digits = text.replace(/^0x/, '');
  if (!/^[0-9a-fA-F]{1,16}$/.test(digits) || /^0+$/.test(digits)) {
    throw new InvalidArgumentError('It must be an id: up to 16 hexadecimal digits.');
  }
  return BigInt(`0x${digits}`);
}

/** An exit code of one byte. */
export function exitCodeOption(text: string): number {
  const value = countOption(0)(text);
  if (value > 255) throw new InvalidArgumentError('It must be an exit code from 0 to 255.');
  return value;
}

export type RangeOptions = {
  readonly prefix?: boolean;
  readonly from?: boolean;
  readonly to?: string;
  readonly all?: boolean;
};

/** What `KEY`, `--prefix`, `--from`, `--to` and `--all` select together. */
export function selectRange(key: string | undefined, options: RangeOptions): Key | KeyRange {
  const forms = [options.prefix, options.from === true || options.to !== undefined, options.all];
  if (forms.filter(Boolean).length > 1) {
    throw usageError('--prefix, --from/--to and --all exclude each other');
  }
  if (options.all) {
    if (key !== undefined) throw usageError(`--all takes no KEY, but '${key}' was given`);
    return { all: true };
  }
  if (key === undefined) throw usageError('KEY is missing; --all selects every key');
  if (options.prefix) return key === '' ? { all: true } : { prefix: key };
  if (options.to !== undefined) return { from: key, to: options.to };
  if (options.from) return { from: key };
  if (key === '') throw usageError('KEY must not be empty; --all selects every key');
  return key;
}

/** Everything on stdin. */
export async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
