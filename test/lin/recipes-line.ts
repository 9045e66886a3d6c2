/**
 * Checks of locks of every kind in the order of the store's revisions, where no clock and no frozen
 * process can blur them. Pure functions of what the store did and of what holders were told.
 *
 * A place is held from the revision that its holder was told (the token) until its key goes.
 */
import type { Commit, Entry } from './store.ts';

/** What a holder was told. */
export type Grant = {
  readonly holder: string;
  readonly key: string;
  readonly createRevision: number;
  readonly token: number;
};

export type Place = {
  readonly key: string;
  readonly createRevision: number;
  readonly modRevision: number;
  readonly value: string;
};

/** What a kind of lock promises. Both return what is wrong, if something is. */
export type LineRule = {
  /** Whether all of these may hold at the same time. */
  readonly together?: (held: readonly Place[]) => string | undefined;
  /** Whether this place may be admitted behind these, oldest first; `beside` is the key beside. */
  readonly admitted: (
    place: Place,
    ahead: readonly Place[],
    beside: string | undefined,
  ) => string | undefined;
};

export type Line = {
  /** Of the keys of all places. */
  readonly prefix: string;
  /** A key that the rule looks at. */
  readonly beside?: string;
  readonly rule: LineRule;
};

/** A write that was guarded by a hold, as its value names it. */
export type Use = {
  readonly key: string;
  readonly createRevision: number;
  readonly token: number;
  /** What the holder took itself for. */
  readonly mode?: string | undefined;
};

export const formatUse = (use: Use): string => JSON.stringify(use);

export function checkLine(
  commits: readonly Commit[],
  { prefix, beside, rule }: Line,
  grants: readonly Grant[],
): string[] {
  const violations: string[] = [];
  const places = new Map<string, Place>();
  const held = new Map<string, Grant>();
  let besideValue: string | undefined;
  const waiting = grants
    .filter(({ key }) => key.startsWith(prefix))
    .toSorted((a, b) => a.token - b.token);
  const judgeTogether = (revision: number): void => {
    const together = [...held.keys()].flatMap((key) => places.get(key) ?? []);
    const wrong = rule.together?.(together);
    if (wrong !== undefined) violations.push(`revision ${revision}: ${wrong}`);
  };
  const grantUpTo = (revision: number): void => {
    for (let grant = waiting[0]; grant !== undefined && grant.token <= revision; ) {
      waiting.shift();
      const { key, createRevision, token, holder } = grant;
      const place = places.get(key);
      if (place?.createRevision !== createRevision) {
        violations.push(`${holder} was told at ${token} that it holds ${key}, which is not there`);
      } else {
        held.set(key, grant);
        const ahead = [...places.values()]
          .filter((other) => other.createRevision < createRevision)
          .sort((a, b) => a.createRevision - b.createRevision);
        const wrong = rule.admitted(place, ahead, besideValue);
        if (wrong !== undefined) {
          violations.push(`${holder} was admitted with ${key} at ${token}: ${wrong}`);
        }
        judgeTogether(token);
      }
      grant = waiting[0];
    }
  };
  for (const { revision, changes } of commits) {
    grantUpTo(revision - 1);
    let isHeldChanged = false;
    for (const { key, entry } of changes) {
      if (key === beside) besideValue = entry?.value;
      if (!key.startsWith(prefix)) continue;
      if (entry === undefined) {
        places.delete(key);
        held.delete(key);
      } else {
        places.set(key, placeOf(key, entry));
        isHeldChanged ||= held.has(key);
      }
    }
    if (isHeldChanged) judgeTogether(revision);
  }
  grantUpTo(Number.POSITIVE_INFINITY);
  return violations;
}

export type UseRule = {
  /** Whether no write may come after one with a higher token. */
  readonly areOrdered: boolean;
  /** Whether a place with this value may be written under so. @default any may */
  readonly allows?: (value: string, use: Use) => boolean;
};

/** Guarded writes, under this prefix: each was made while the place that it names was there. */
export function checkUses(
  commits: readonly Commit[],
  usePrefix: string,
  { areOrdered, allows = () => true }: UseRule,
): string[] {
  const violations: string[] = [];
  const present = new Map<string, Entry>();
  let highest = 0;
  for (const { revision, changes } of commits) {
    for (const { key, entry } of changes) {
      if (key.startsWith(usePrefix) && entry !== undefined) {
        const use = JSON.parse(entry.value) as Use;
        const place = present.get(use.key);
        if (place?.createRevision !== use.createRevision)
          violations.push(`revision ${revision} was written under ${use.key}, which was not there`);
        else if (!allows(place.value, use))
          violations.push(`revision ${revision} was written under ${use.key}: ${place.value}`);
        if (areOrdered && use.token < highest)
          violations.push(
            `revision ${revision} was written with token ${use.token} after ${highest}`,
          );
        highest = Math.max(highest, use.token);
      }
      if (entry === undefined) present.delete(key);
      else present.set(key, entry);
    }
  }
  return violations;
}

/**
 * Keys that one attempt has in several lines come and go together. Its name is the last level.
 */
export function checkAllOrNone(commits: readonly Commit[], prefixes: readonly string[]): string[] {
  const violations: string[] = [];
  /** By attempt: how many keys it has. */
  const counts = new Map<string, number>();
  for (const { revision, changes } of commits) {
    const changed = new Map<string, number>();
    for (const { type, key } of changes) {
      const prefix = prefixes.find((each) => key.startsWith(each));
      if (prefix === undefined) continue;
      const attempt = key.slice(prefix.length);
      changed.set(attempt, (changed.get(attempt) ?? 0) + (type === 'put' ? 1 : -1));
    }
    for (const [attempt, by] of changed) {
      const before = counts.get(attempt) ?? 0;
      const after = before + by;
      if (before > 0 && after !== 0)
        violations.push(`revision ${revision}: ${attempt} had ${before} keys and has ${after}`);
      counts.set(attempt, after);
    }
  }
  return violations;
}

const placeOf = (key: string, { createRevision, modRevision, value }: Entry): Place => ({
  key,
  createRevision,
  modRevision,
  value,
});
