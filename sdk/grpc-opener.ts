/** Connections to members over gRPC, as the options of a client describe them. */
import type { ConnectOptions } from './client.ts';
import type { Clock } from './clock.ts';
import { invalidArgument } from './errors.ts';
import { insecureCredentials, tlsCredentials } from './tls.ts';
import type { OpenTransport } from './transport.ts';
import { GrpcTransport } from './transport-grpc.ts';

/** @throws ConclaveError INVALID_ARGUMENT */
export const overGrpc = (
  { transport = 'auto', tls }: Pick<ConnectOptions, 'transport' | 'tls'>,
  clock: Clock,
): OpenTransport => {
  if (transport !== 'auto' && transport !== 'unary' && transport !== 'batch') {
    throw invalidArgument('transport', transport, "'auto', 'unary' or 'batch'");
  }
  let credentials = tls === undefined ? undefined : tlsCredentials(tls);
  const withoutBatches = new Set<string>();
  return (endpoint) => {
    if (endpoint.tls) credentials ??= tlsCredentials();
    const given = credentials ?? insecureCredentials;
    return new GrpcTransport(endpoint, { transport, credentials: given, withoutBatches, clock });
  };
};
