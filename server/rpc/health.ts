/** The standard gRPC health service: the server as a whole is service "". */
import { Status } from '../faults.ts';
import {
  HealthCheckRequest,
  HealthCheckResponse,
  HealthCheckResponse_ServingStatus,
  HealthDefinition,
} from '../wire/health/health.ts';
import type { MemberFacts } from './member.ts';
import { decode, methodsOf, type UnaryMethod } from './method.ts';
import type { ServedResponses } from './served-stream.ts';
import { Rejection, statusOf } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';

const isKnown = (service: string): boolean => service === '';

export function healthCheck(member: MemberFacts): UnaryMethod {
  return methodsOf(member, HealthDefinition)(
    HealthDefinition.methods.check,
    async ({ service }) => {
      if (!isKnown(service)) throw new Rejection(Status.NOT_FOUND, 'unknown service');
      return { status: HealthCheckResponse_ServingStatus.SERVING };
    },
    { onLearner: () => true },
  );
}

/** Says how things are and keeps the stream: a stopping server ends it. */
export function serveHealthWatch(call: ServedResponses, streams: OpenStreams): void {
  const stream: OpenStream = {
    needsLeader: false,
    fail: (fault) => call.emit('error', statusOf(fault)),
  };
  try {
    const { service } = decode(HealthCheckRequest, call.request);
    const status = isKnown(service)
      ? HealthCheckResponse_ServingStatus.SERVING
      : HealthCheckResponse_ServingStatus.SERVICE_UNKNOWN;
    call.write(HealthCheckResponse.encode({ status }).finish());
    streams.add(stream);
    call.on('cancelled', () => streams.delete(stream));
  } catch (error) {
    call.emit('error', statusOf(error));
  }
}
