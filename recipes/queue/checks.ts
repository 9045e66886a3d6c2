/** What is refused before anything is done: a mistake that is told late is told to the wrong one. */
import type { Codec } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';

/** @throws ConclaveError INVALID_ARGUMENT */
export function checkCall(options: CallOptions): void {
  checkOptions<CallOptions>(options, timeLimits);
}

/** @throws ConclaveError INVALID_ARGUMENT for what is given and is no text */
export function checkText(value: unknown, field: string): void {
  if (value !== undefined && typeof value !== 'string') {
    throw invalidArgument(field, value, 'a text');
  }
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
