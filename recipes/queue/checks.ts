/** What is refused before anything is done: a mistake that is told late is told to the wrong one. */
import type { Codec } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { refuseUnknownOptions } from '../../sdk/known-options.ts';
import type { CallOptions } from '../../sdk/options.ts';

type Known<Options extends object> = Readonly<Record<keyof Required<Options>, true>>;

export const knownCall: Known<CallOptions> = { signal: true, timeout: true };

/**
 * @param known every option there is
 * @param field what the options are given as, when they are part of something
 * @throws ConclaveError INVALID_ARGUMENT when they are no object, or one of them does not exist
 */
export function checkOptions<Options extends object>(
  options: Options,
  known: Known<Options>,
  field?: string,
): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw invalidArgument(field ?? 'options', options, 'an object of options');
  }
  refuseUnknownOptions<Options>(options, known, field === undefined ? '' : `${field}.`);
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkCall(options: CallOptions): void {
  checkOptions(options, knownCall);
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkFunction(value: unknown, field: string, what: string): void {
  if (typeof value !== 'function') throw invalidArgument(field, value, what);
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkCodec(codec: unknown): void {
  if (codec === undefined) return;
  const { encode, decode } = Object(codec) as Partial<Codec<unknown>>;
  if (typeof encode === 'function' && typeof decode === 'function') return;
  throw invalidArgument('codec', codec, 'an object with the functions encode and decode');
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkId(id: string): void {
  if (typeof id !== 'string' || id === '') {
    throw invalidArgument('id', id, 'the id of a job: a text that is not empty');
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkList(value: unknown, field: string, what: string): void {
  if (!Array.isArray(value)) throw invalidArgument(field, value, `an array of ${what}`);
}
