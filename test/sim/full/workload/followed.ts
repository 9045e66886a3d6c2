/** What clients saw of a prefix that they follow, held against what the store held. */
import type { CommitLog } from '../commit-log.ts';

/** By key: the revision of its last write. */
export type FollowedKeys = ReadonlyMap<string, bigint>;

export type Sight = {
  /** Whether revisions before may have been left out, and were said to be. */
  readonly isReset: boolean;
  readonly revision: bigint;
  readonly keys: FollowedKeys;
};

/** What one follower was shown, in order. */
export type Followed = { readonly name: string; readonly sights: Sight[] };

/** Each sight is the store at its revision, and nothing happened between it and the one before. */
export function checkFollowed(
  log: CommitLog,
  prefix: string,
  followers: readonly Followed[],
): string | undefined {
  const states = new Map<number, FollowedKeys>([[1, new Map()]]);
  const touched: number[] = [];
  const state = new Map<string, bigint>();
  for (const { revision, changes } of log.commits) {
    const within = changes.filter(({ key }) => key.startsWith(prefix));
    for (const { type, key } of within) {
      if (type === 'put') state.set(key.slice(prefix.length), BigInt(revision));
      else state.delete(key.slice(prefix.length));
    }
    if (within.length > 0) touched.push(revision);
    states.set(revision, new Map(state));
  }
  for (const { name, sights } of followers) {
    let before: bigint | undefined;
    for (const { isReset, revision, keys } of sights) {
      const real = states.get(Number(revision));
      if (real === undefined) return `${name} shows revision ${revision}, which there is not`;
      if (!isSame(keys, real)) {
        return `${name} shows ${print(keys)} at revision ${revision}, which was ${print(real)}`;
      }
      const from = before;
      const skipped =
        isReset || from === undefined
          ? undefined
          : touched.find((each) => each > from && each < revision);
      if (skipped !== undefined) return `${name} was at ${from}, then ${revision}: no ${skipped}`;
      if (from !== undefined && revision < from)
        return `${name} went back from ${from} to ${revision}`;
      before = revision;
    }
  }
  return undefined;
}

const isSame = (one: FollowedKeys, other: FollowedKeys): boolean =>
  one.size === other.size && [...one].every(([key, revision]) => other.get(key) === revision);

const print = (keys: FollowedKeys): string =>
  `{ ${[...keys].map(([key, revision]) => `${key}: ${revision}`).join(', ')} }`;
