/** From the settings of `conclave serve` to the options of a member. */
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { MemberOptions } from './embed.ts';

export function memberOptions(config: Config, logger: Logger): MemberOptions {
  const urls = (endpoints: readonly { readonly url: string }[]): string[] =>
    endpoints.map((endpoint) => endpoint.url);
  return {
    directory: config.dataDirectory,
    name: config.name,
    listenClientUrls: urls(config.listenClientUrls),
    advertiseClientUrls: urls(config.advertiseClientUrls),
    listenMetricsUrls: urls(config.listenMetricsUrls),
    peerUrls: urls(config.initialAdvertisePeerUrls),
    listenPeerUrls: urls(config.listenPeerUrls),
    initialCluster: config.initialCluster.map(({ name, peerUrls }) => ({
      name,
      peerUrls: urls(peerUrls),
    })),
    initialClusterState: config.initialClusterState,
    strictReconfigCheck: config.strictReconfigCheck,
    clusterToken: config.initialClusterToken,
    heartbeatIntervalMs: config.heartbeatIntervalMs,
    electionTimeoutMs: config.electionTimeoutMs,
    snapshotCount: config.snapshotCount,
    catchUpEntries: config.catchUpEntries,
    quotaBytes: config.quotaBytes,
    autoCompaction: config.autoCompaction,
    maxTxnOps: config.maxTxnOps,
    maxRequestBytes: config.maxRequestBytes,
    watchProgressNotifyIntervalMs: config.watchProgressNotifyIntervalMs,
    grpcServer: config.grpcServer,
    origins: config.cors,
    hosts: config.hostWhitelist,
    logger,
    processMetrics: true,
  };
}
