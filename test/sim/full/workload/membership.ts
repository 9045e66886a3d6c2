/** Groups: members are listed while their sessions live, and all see the same, in the same order. */
import type { GroupSnapshot } from '../../../../recipes/group/group-view.ts';
import type { Membership, Share } from '../../../../recipes/group/membership.ts';
import { groupPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { checkFollowed, type Followed } from './followed.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'crew';

export class MembershipWorkload implements Workload {
  readonly #followers: Followed[] = [];
  /** By revision: who has which of how many shares. */
  readonly #shares = new Map<
    bigint,
    { readonly count: number; readonly owners: Map<number, string> }
  >();

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      const group = session.group<number>(NAME, { recheck: 2_000 });
      const followed: Followed = { name: client.name, sights: [] };
      this.#followers.push(followed);
      const watching = group.members$.subscribe((snapshot) => this.#note(followed, snapshot));
      const membership = await group.join({ data: 0, signal: client.ending });
      const sharing = membership.share$.subscribe((share) => this.#share(client.name, share));
      try {
        await this.#stay(client, session, membership);
      } finally {
        sharing.unsubscribe();
        watching.unsubscribe();
      }
    });
  }

  check(log: CommitLog): void {
    const wrong = checkFollowed(log, groupPrefix(NAME), this.#followers);
    hold(wrong === undefined, 50, () => `${wrong}`);
  }

  async #stay(
    { name, knobs, choose, pause, isEnding }: ClientContext,
    session: RecipeSession,
    membership: Membership<number>,
  ): Promise<void> {
    const group = session.group<number>(NAME);
    for (let turns = 1 + choose.below(8); turns > 0 && !isEnding(); turns -= 1) {
      await pause(knobs.meanPauseMs);
      await membership.update(turns).catch(ignoreRefusal);
      const wasIn = membership.state === 'joined';
      const { members } = await group.members();
      // Only one that is in through the whole look must be seen in it.
      if (!wasIn || membership.state !== 'joined' || session.state !== 'live') continue;
      const isListed = members.some(({ id }) => id === membership.id);
      hold(isListed, 51, () => `${name} is a member and not listed`);
      if (choose.below(6) === 5) {
        // As an operator would who takes it for dead.
        await session.client.kv.delete(groupPrefix(NAME) + membership.id).catch(ignoreRefusal);
        return;
      }
    }
    await membership.leave();
  }

  #note(followed: Followed, { members, revision, stale }: GroupSnapshot<number>): void {
    const last = followed.sights.at(-1);
    // The same members as before, said to be stale, or fresh again.
    if (stale || last?.revision === revision) return;
    const keys = new Map(members.map(({ id, modRevision }) => [id, modRevision]));
    followed.sights.push({ isReset: true, revision, keys });
    const inOrder = members.every(
      ({ createRevision }, at) => createRevision >= (members[at - 1]?.createRevision ?? 0n),
    );
    hold(inOrder, 52, () => `${followed.name} sees members out of order`);
  }

  #share(name: string, share: Share | null): void {
    if (share === null) return;
    const { revision, index, count } = share;
    const known = this.#shares.get(revision) ?? { count, owners: new Map<number, string>() };
    this.#shares.set(revision, known);
    const owner = known.owners.get(index) ?? name;
    known.owners.set(index, owner);
    hold(
      owner === name && known.count === count,
      52,
      () =>
        `${owner} and ${name} have share ${index} of ${known.count} and ${count} at ${revision}`,
    );
  }
}
