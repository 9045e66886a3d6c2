/** A member's data directory out of a saved snapshot. */
import { identityOf } from './identity.ts';
import { forgetCluster } from './machine.ts';
import { restoreSnapshot } from './storage/restore.ts';

export type RestoreOptions = {
  /** As written by `conclave snapshot save` or `etcdctl snapshot save` from a conclave store. */
  readonly file: string;
  /** Must not hold a member's data yet. */
  readonly directory: string;
  /** @default 'default' */
  readonly name?: string;
  readonly clusterToken?: string;
};

/**
 * Revisions continue where the snapshot stood, so whatever was written after it may get a revision
 * again: fencing tokens handed out since then are no longer safe, and their holders must be stopped.
 *
 * @throws {DataDirectoryError} when the directory already belongs to a member
 * @throws {CorruptionError} when the file is not a whole snapshot
 */
export function restoreMember(options: RestoreOptions): Promise<{ readonly appliedIndex: number }> {
  const identity = identityOf(options.name ?? 'default', options.clusterToken ?? 'etcd-cluster');
  const { file, directory } = options;
  return restoreSnapshot({ file, directory, identity, adapt: forgetCluster });
}
