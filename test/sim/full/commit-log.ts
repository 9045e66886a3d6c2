/** What the store did, revision by revision, as every member published it: they must all agree. */
import type { Event, Revision } from '../../../server/mvcc/types.ts';
import { print } from '../../lin/history.ts';
import { type Change, type Commit, sameChanges } from '../../lin/store.ts';
import { hold } from '../engine/violation.ts';

export class CommitLog {
  readonly #commits: Commit[] = [];

  /** Every revision after the first, without a gap. */
  get commits(): readonly Commit[] {
    return this.#commits;
  }

  get revision(): number {
    return this.#commits.at(-1)?.revision ?? 1;
  }

  published(member: number, revision: Revision, events: readonly Event[]): void {
    const changes = events.map(changeOf);
    const known = this.#commits[revision - 2];
    if (known === undefined) {
      hold(
        revision === this.revision + 1,
        10,
        () => `member ${member} publishes revision ${revision} after ${this.revision}`,
      );
      this.#commits.push({ revision, changes });
      return;
    }
    hold(
      sameChanges(known.changes, changes),
      4,
      () =>
        `member ${member} has ${print(changes)} at revision ${revision}, another one ${print(known.changes)}`,
    );
  }
}

function changeOf({ kind, kv }: Event): Change {
  const key = Buffer.from(kv.key).toString();
  if (kind === 'delete') return { type: 'delete', key, entry: undefined };
  return {
    type: 'put',
    key,
    entry: {
      value: Buffer.from(kv.value).toString(),
      createRevision: kv.createRevision,
      modRevision: kv.modRevision,
      version: kv.version,
      lease: kv.lease,
    },
  };
}
