/** What is shown to people beside a session's keys: checked where it is given, not where it is read. */
import { invalidArgument } from './errors.ts';

/** @throws ConclaveError INVALID_ARGUMENT when it is not a flat record of texts */
export const checkMeta = (meta: unknown, field = 'meta'): void => {
  if (Object.prototype.toString.call(meta) !== '[object Object]') {
    throw invalidArgument(field, meta, 'an object whose values are texts');
  }
  for (const [name, value] of Object.entries(meta as object)) {
    if (typeof value !== 'string') throw invalidArgument(`${field}.${name}`, value, 'a text');
  }
};
