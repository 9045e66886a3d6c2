/** `conclave/server`: a store inside your process, and what the command line needs to run one. */

export { ArrivalError } from './arrival.ts';
export type { AutoCompactionPolicy } from './auto-compaction.ts';
export {
  type Config,
  ConfigError,
  describeFlags,
  type LoadedConfig,
  loadConfig,
} from './config.ts';
export { type MemberOptions, type RunningMember, startMember } from './embed.ts';
export type { InitialMember } from './identity.ts';
export { memberOptions } from './member-options.ts';
export { type RestoreOptions, restoreMember } from './restore.ts';
export {
  CorruptionError,
  DataDirectoryError,
  DataDirectoryInUse,
  StorageFailedError,
} from './storage/errors.ts';
