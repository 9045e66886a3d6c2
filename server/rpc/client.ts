/** Clients whose writes count once, and the sign of life. Served on the batched stream only. */
import { limits } from '../limits.ts';
import {
  BatchDefinition,
  ClientForgetRequest,
  ClientForgetResponse,
  ClientRegisterRequest,
  ClientRegisterResponse,
  PingRequest,
  PingResponse,
} from '../wire/conclave/v1/batch.ts';
import { methodsOf } from './method.ts';
import type { ServiceContext } from './services.ts';

export function clientMethods({ member }: ServiceContext) {
  const method = methodsOf(member, BatchDefinition);

  const register = method(
    {
      name: 'ClientRegister',
      requestType: ClientRegisterRequest,
      responseType: ClientRegisterResponse,
    },
    async (_request, { signal }) => {
      const { id } = await member.propose({ kind: 'client-register' });
      if (signal.aborted) {
        // Nobody will ever use it, nor say that it is not needed.
        member.propose({ kind: 'client-forget', id }).catch(() => undefined);
      }
      return {
        clientId: id,
        ttlSeconds: limits.clientTtlSeconds,
        window: limits.clientWindow,
      };
    },
  );

  const forget = method(
    { name: 'ClientForget', requestType: ClientForgetRequest, responseType: ClientForgetResponse },
    async ({ clientId }) => {
      await member.propose({ kind: 'client-forget', id: clientId });
      return {};
    },
  );

  /** Waits for nothing: it says that the loop turns, not that the member can do anything. */
  const ping = method(
    { name: 'Ping', requestType: PingRequest, responseType: PingResponse },
    async () => ({}),
    { onLearner: () => true },
  );

  return { register, forget, ping };
}
