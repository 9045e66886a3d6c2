/** What callers give, checked before anything is done with it. */
import type { Codec } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { refuseUnknownOptions } from '../../sdk/known-options.ts';

/** Every option there is; typed as a record, so that none is forgotten. */
export type Known<Options> = Readonly<Record<keyof Required<Options>, true>>;

/** The options of calls that only bound their time. */
export const timeLimits = { signal: true, timeout: true } as const;

/** The options of calls that can only be ended early. */
export const onlySignal = { signal: true } as const;

/**
 * @param field the option that these belong to, such as 'probe'; without, they are the call's own
 * @throws ConclaveError INVALID_ARGUMENT when they are no object, one of them is unknown, or `signal`
 *   is something else
 */
export function checkOptions<Options extends object>(
  options: Options,
  known: Known<Options>,
  field?: string,
): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument(field ?? 'options', options, 'an object of options');
  }
  refuseUnknownOptions(options, known, field === undefined ? '' : `${field}.`);
  if ('signal' in options) checkSignal(options.signal);
}

/** @throws ConclaveError INVALID_ARGUMENT for what is given and is no AbortSignal */
export function checkSignal(signal: unknown): void {
  if (signal === undefined) return;
  // Not by `instanceof`: it may be of another realm, or a polyfill.
  const { aborted, addEventListener, removeEventListener } = Object(signal) as Partial<AbortSignal>;
  const isSignal =
    typeof aborted === 'boolean' &&
    typeof addEventListener === 'function' &&
    typeof removeEventListener === 'function';
  if (!isSignal) throw invalidArgument('signal', signal, 'an AbortSignal');
}

/** @throws ConclaveError INVALID_ARGUMENT for what is given and is neither true nor false */
export function checkBoolean(given: boolean | undefined, field: string): void {
  if (given !== undefined && typeof given !== 'boolean') {
    throw invalidArgument(field, given, 'true or false');
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
