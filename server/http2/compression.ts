/** Compressed requests. Answers are never compressed. */
import { promisify } from 'node:util';
import { gunzip, inflate } from 'node:zlib';
import { type GrpcStatus, StatusCode } from './status.ts';

/** As in `grpc-accept-encoding`. */
export const ACCEPTED_ENCODINGS = 'identity,deflate,gzip';

const methods = new Map([
  ['gzip', promisify(gunzip)],
  ['deflate', promisify(inflate)],
] as const satisfies readonly (readonly [string, unknown])[]);

const TOO_LARGE = 'ERR_BUFFER_TOO_LARGE';

/** The message, or why there is none. */
export async function decompress(
  message: Buffer,
  encoding: string | undefined,
  maxBytes: number,
): Promise<Buffer | GrpcStatus> {
  if (encoding === undefined || encoding === 'identity') {
    return {
      code: StatusCode.INTERNAL,
      details: 'a message is marked as compressed, but grpc-encoding does not say how',
    };
  }
  const method = methods.get(encoding as 'gzip');
  if (method === undefined) {
    return {
      code: StatusCode.UNIMPLEMENTED,
      details: `grpc-encoding is ${JSON.stringify(encoding)}: allowed are ${ACCEPTED_ENCODINGS}`,
      accepts: ACCEPTED_ENCODINGS,
    };
  }
  try {
    return await method(message, { maxOutputLength: Math.max(1, maxBytes) });
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === TOO_LARGE) {
      return {
        code: StatusCode.RESOURCE_EXHAUSTED,
        details: `Received message that decompresses to a size larger than ${maxBytes}`,
      };
    }
    return { code: StatusCode.INTERNAL, details: 'Failed to decompress message' };
  }
}
