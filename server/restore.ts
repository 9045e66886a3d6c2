/** A member's data directory out of a saved snapshot. */
import { foundersOf, type InitialMember, identityOf } from './identity.ts';
import { forgetCluster } from './machine.ts';
import { Roster } from './roster.ts';
import { restoreSnapshot } from './storage/restore.ts';

export type RestoreOptions = {
  /** As written by `conclave snapshot save` or `etcdctl snapshot save` from a conclave store. */
  readonly file: string;
  /** Must not hold a member's data yet. */
  readonly directory: string;
  /** @default 'default' */
  readonly name?: string;
  readonly clusterToken?: string;
  /**
   * The members of the new cluster, this one among them. Each is restored from the same file, with the
   * same list and token. @default this one alone
   */
  readonly initialCluster?: readonly InitialMember[];
};

/**
 * Revisions continue where the snapshot stood, so whatever was written after it may get a revision
 * again: fencing tokens handed out since then are no longer safe, and their holders must be stopped.
 *
 * @throws {DataDirectoryError} when the directory already belongs to a member
 * @throws {CorruptionError} when the file is not a whole snapshot
 */
export function restoreMember(options: RestoreOptions): Promise<{ readonly appliedIndex: number }> {
  const { file, directory, name = 'default', clusterToken = 'etcd-cluster' } = options;
  const { initialCluster = [] } = options;
  return restoreSnapshot({
    file,
    directory,
    identity: identityOf(name, clusterToken, initialCluster),
    adapt: (state) => [
      ...forgetCluster(state),
      ...new Roster().bootstrap(foundersOf(clusterToken, initialCluster), 0),
    ],
  });
}
