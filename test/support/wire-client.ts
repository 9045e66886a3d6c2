/** A client at the level of the wire: every field as it is sent and received, no retries. */
import { ChannelCredentials, Client as RawClient } from '@grpc/grpc-js';
import { type Client, createChannel, createClient } from 'nice-grpc';
import {
  AuthDefinition,
  ClusterDefinition,
  KVDefinition,
  LeaseDefinition,
  MaintenanceDefinition,
  WatchDefinition,
} from '../../server/wire/etcdserverpb/rpc.ts';

export type WireClient = {
  readonly kv: Client<typeof KVDefinition>;
  readonly watch: Client<typeof WatchDefinition>;
  readonly lease: Client<typeof LeaseDefinition>;
  readonly cluster: Client<typeof ClusterDefinition>;
  readonly maintenance: Client<typeof MaintenanceDefinition>;
  readonly auth: Client<typeof AuthDefinition>;
  close(): void;
};

/** `endpoint` is `host:port`. */
export function connectWire(endpoint: string): WireClient {
  const channel = createChannel(endpoint, ChannelCredentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    // A restarted server must be found again at once: the harness measures the server, not gRPC's patience.
    'grpc.initial_reconnect_backoff_ms': 50,
    // Also how long one attempt to connect may take.
    'grpc.min_reconnect_backoff_ms': 2_000,
    'grpc.max_reconnect_backoff_ms': 200,
    'grpc.use_local_subchannel_pool': 1,
  });
  return {
    kv: createClient(KVDefinition, channel),
    watch: createClient(WatchDefinition, channel),
    lease: createClient(LeaseDefinition, channel),
    cluster: createClient(ClusterDefinition, channel),
    maintenance: createClient(MaintenanceDefinition, channel),
    auth: createClient(AuthDefinition, channel),
    close: () => channel.close(),
  };
}

/** Calls by path, for what the services above do not have. */
export const rawClient = (endpoint: string): RawClient =>
  new RawClient(endpoint, ChannelCredentials.createInsecure());
