/** What is refused before anything is done: a mistake that is told late is told to the wrong one. */
import type { Codec } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { CallOptions } from '../../sdk/options.ts';
import {
  checkCodec as checkGivenCodec,
  checkOptions,
  timeLimits,
} from '../common/option-checks.ts';

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

/** One that may be left out. @throws ConclaveError INVALID_ARGUMENT */
export function checkCodec<T>(codec: Codec<T> | undefined): void {
  if (codec !== undefined) checkGivenCodec(codec);
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
