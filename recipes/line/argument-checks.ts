/** What callers give to members of a line, or to what waits likewise. See `common/option-checks.ts`. */
import { invalidArgument } from '../../sdk/errors.ts';

/** Every option there is; typed as a record, so that none is forgotten. */
export type Known<Options> = Readonly<Record<keyof Required<Options>, true>>;

/** @throws ConclaveError INVALID_ARGUMENT for what is given and is no AbortSignal */
export function checkSignal(signal: AbortSignal | undefined): void {
  // Not by `instanceof`: it may be of another realm, or a polyfill.
  const given: Partial<AbortSignal> | null | undefined = signal;
  if (given === undefined) return;
  const isSignal =
    typeof given?.aborted === 'boolean' &&
    typeof given.addEventListener === 'function' &&
    typeof given.removeEventListener === 'function';
  if (!isSignal) throw invalidArgument('signal', given, 'an AbortSignal');
}

/** @throws ConclaveError INVALID_ARGUMENT for what is given and is neither true nor false */
export function checkBoolean(given: boolean | undefined, field: string): void {
  if (given !== undefined && typeof given !== 'boolean') {
    throw invalidArgument(field, given, 'true or false');
  }
}
