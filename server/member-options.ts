/** From the settings of `conclave serve` to the options of a member. */
import type { Logger } from 'pino';
import type { Config } from './config.ts';
import type { MemberOptions } from './embed.ts';

export class UnsupportedClusterError extends Error {
  override name = 'UnsupportedClusterError';
  readonly code = 'UNSUPPORTED_CLUSTER';
}

/** @throws {UnsupportedClusterError} for a cluster of several members, which this version cannot form. */
export function memberOptions(config: Config, logger: Logger): MemberOptions {
  const urls = (endpoints: readonly { readonly url: string }[]): string[] =>
    endpoints.map((endpoint) => endpoint.url);
  if (config.initialClusterState !== 'new') {
    throw new UnsupportedClusterError(
      `cannot use '${config.initialClusterState}' as --initial-cluster-state: this version runs stores of one member, which join no cluster; leave the flag out or set it to 'new'`,
    );
  }
  if (config.initialCluster.length !== 1) {
    throw new UnsupportedClusterError(
      `cannot use ${config.initialCluster.length} members as --initial-cluster: this version runs stores of one member; name only '${config.name}'`,
    );
  }
  return {
    directory: config.dataDirectory,
    name: config.name,
    listenClientUrls: urls(config.listenClientUrls),
    advertiseClientUrls: urls(config.advertiseClientUrls),
    listenMetricsUrls: urls(config.listenMetricsUrls),
    peerUrls: urls(config.initialAdvertisePeerUrls),
    clusterToken: config.initialClusterToken,
    heartbeatIntervalMs: config.heartbeatIntervalMs,
    electionTimeoutMs: config.electionTimeoutMs,
    snapshotCount: config.snapshotCount,
    quotaBytes: config.quotaBytes,
    autoCompaction: config.autoCompaction,
    maxTxnOps: config.maxTxnOps,
    maxRequestBytes: config.maxRequestBytes,
    watchProgressNotifyIntervalMs: config.watchProgressNotifyIntervalMs,
    origins: config.cors,
    hosts: config.hostWhitelist,
    logger,
    processMetrics: true,
  };
}
