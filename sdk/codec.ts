/** How values become bytes and back. */
import { ConclaveError } from './errors.ts';
import { toBuffer } from './keys.ts';

/** Both directions must agree: `decode(encode(value))` equals `value`. Either may throw. */
export type Codec<T> = {
  encode(value: T): Uint8Array | string;
  decode(bytes: Uint8Array): T;
};

/** Values as JSON in UTF-8. The type is the caller's word: nothing is validated. */
export const json = <T>(): Codec<T> => ({
  encode(value) {
    const encoded = JSON.stringify(value) as string | undefined;
    if (encoded === undefined) {
      throw new ConclaveError('CODEC', `Cannot write a value of type ${typeof value} as JSON`);
    }
    return encoded;
  },
  decode: (data) => JSON.parse(toBuffer(data).toString('utf8')) as T,
});

/** Values as text in UTF-8. */
export const text = (): Codec<string> => ({
  encode: (value) => value,
  decode: (data) => toBuffer(data).toString('utf8'),
});

/** Values as they are. */
export const bytes = (): Codec<Uint8Array> => ({
  encode: (value) => value,
  decode: (data) => data,
});

/** Encodes with the codec. @throws ConclaveError CODEC when the codec throws */
export const encodeWith = <T>(codec: Codec<T>, value: T): Buffer => {
  try {
    return toBuffer(codec.encode(value));
  } catch (cause) {
    throw new ConclaveError('CODEC', 'The codec could not encode the value', { cause });
  }
};

/** Decodes with the codec. @throws ConclaveError CODEC, naming the key, when the codec throws */
export const decodeWith = <T>(codec: Codec<T>, data: Uint8Array, key: string): T => {
  try {
    return codec.decode(data);
  } catch (cause) {
    throw new ConclaveError('CODEC', `The codec could not decode the value of '${key}'`, { cause });
  }
};
