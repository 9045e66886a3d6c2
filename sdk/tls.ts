/** The credentials of a client, made once: what is wrong with them is said before anything connects. */
import { createSecureContext } from 'node:tls';
import { type ChannelCredentials, credentials } from '@grpc/grpc-js';
import type { TlsOptions } from './client.ts';
import { ConclaveError } from './errors.ts';

export const insecureCredentials: ChannelCredentials = credentials.createInsecure();

const allowed = 'certificates or a key in PEM, as a text or bytes';

/** @throws ConclaveError INVALID_ARGUMENT naming the option that cannot be used; it quotes none */
export const tlsCredentials = (tls: TlsOptions = {}): ChannelCredentials => {
  if (typeof tls !== 'object' || tls === null) throw unusable('tls', 'it must be an object');
  const ca = pem('tls.ca', tls.ca);
  const cert = pem('tls.cert', tls.cert);
  const key = pem('tls.key', tls.key);
  if (key !== null && cert === null) throw unusable('tls.key', "it needs 'tls.cert' beside it");
  if (cert !== null && key === null) throw unusable('tls.cert', "it needs 'tls.key' beside it");
  if (cert !== null) attempt('tls.cert', () => createSecureContext({ cert }));
  if (key !== null) attempt('tls.key', () => createSecureContext({ key }));
  return attempt('tls', () => credentials.createSsl(ca, key, cert));
};

const pem = (field: string, data: unknown): Buffer | null => {
  if (data === undefined) return null;
  const bytes = typeof data === 'string' || data instanceof Uint8Array ? Buffer.from(data) : null;
  // OpenSSL takes authorities that are no PEM without a word and then trusts nobody.
  if (!bytes?.includes('-----BEGIN ')) throw unusable(field, `it must be ${allowed}`);
  return bytes;
};

const attempt = <T>(field: string, make: () => T): T => {
  try {
    return make();
  } catch (cause) {
    throw unusable(field, cause instanceof Error ? cause.message : String(cause), cause);
  }
};

const unusable = (field: string, reason: string, cause?: unknown): ConclaveError =>
  new ConclaveError('INVALID_ARGUMENT', `Cannot use what was given as '${field}': ${reason}`, {
    cause,
  });
