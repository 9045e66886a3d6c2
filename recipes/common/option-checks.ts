/** What callers give, checked before anything is done with it. */
import type { Codec } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { refuseUnknownOptions } from '../../sdk/known-options.ts';

/** The options of calls that only bound their time. */
export const timeLimits = { signal: true, timeout: true } as const;

/** The options of calls that can only be ended early. */
export const onlySignal = { signal: true } as const;

/**
 * @param known every option there is; typed as a record, so that none is forgotten
 * @param field the option that these belong to, such as 'probe'; without, they are the call's own
 * @throws ConclaveError INVALID_ARGUMENT when they are no object, one of them is unknown, or `signal`
 *   is something else
 */
export function checkOptions<Options extends object>(
  options: Options,
  known: Readonly<Record<keyof Required<Options>, true>>,
  field?: string,
): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument(field ?? 'options', options, 'an object of options');
  }
  refuseUnknownOptions(options, known, field === undefined ? '' : `${field}.`);
  if (!('signal' in options) || options.signal === undefined) return;
  if (!(options.signal instanceof AbortSignal)) {
    throw invalidArgument('signal', options.signal, 'an AbortSignal');
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkCodec<T>(codec: Codec<T>): void {
  const isCodec =
    typeof codec === 'object' &&
    codec !== null &&
    typeof codec.encode === 'function' &&
    typeof codec.decode === 'function';
  if (!isCodec) throw invalidArgument('codec', codec, 'an object with encode() and decode()');
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkFunction(given: unknown, field: string, allowed = 'a function'): void {
  if (typeof given !== 'function') throw invalidArgument(field, given, allowed);
}

const loneSurrogate = /\p{Cs}/u;

/**
 * Whether this text has bytes of its own. Half of a surrogate pair has none: it is written as U+FFFD,
 * and would be mistaken for it.
 */
export const isWellFormed = (text: string): boolean => !loneSurrogate.test(text);
