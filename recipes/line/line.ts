/**
 * The ordered leased line: the core of mutex and election, and of every recipe in which members
 * wait their turn.
 *
 * Each member owns one key under a common prefix, attached to its session's lease. The store
 * numbers the keys by create revision, and that number is the order of the line:
 *
 *     conclave/lock/orders/…4a-7f   create revision 112   holder
 *     conclave/lock/orders/…90-01   create revision 118   waits for 112
 *     conclave/lock/orders/…4a-c3   create revision 125   waits for 118
 *
 * A member watches only the place it waits for, so a release wakes exactly one waiter.
 *
 * This file is the algorithm and nothing else: `step(state, event)` returns the next state and the
 * effects to run. It does no I/O, reads no clock and rolls no dice; `line-driver.ts` runs the
 * effects against a store. The invariants, and where they are kept:
 *
 * - L1 One holder. A member holds only after one read, taken at one revision, showed its own key
 *   with the create revision it remembers and nothing ahead that its policy waits for
 *   (`settle`). A vanished predecessor is only a reason to read again: it may have given up
 *   while others are still ahead.
 * - L2 No lost wake-up. The watch on the place ahead starts at the revision after the read that
 *   chose it; where the store tells instead, it does so as soon as the place is not as that read
 *   showed it. A slow re-read covers a store that lost a delete (`wait`).
 * - L3 A lost place is never held. Own key missing, or present with another create revision, ends
 *   the membership; so does the end of the session (`lose`).
 * - L4 Leaving is final. After `leave` no grant is ever announced, whatever replies are still
 *   under way.
 *
 * After the lock recipe of ZooKeeper (https://zookeeper.apache.org/doc/current/recipes.html) and
 * etcd's concurrency package, with the re-read of the own key that the latter lacks.
 */

/** A member's key as the store has it. */
export type Place = {
  readonly key: string;
  readonly createRevision: bigint;
  /** Of the last write: a member may change its value in its place. */
  readonly modRevision: bigint;
  readonly value: Uint8Array;
};

/**
 * Which of the places ahead a member must wait for; `undefined` admits it. `ahead` is in line
 * order, oldest first, and holds only the nearest place when the driver reads no further.
 */
export type Policy = (ahead: readonly Place[]) => Place | undefined;

/** Wait for whoever is directly ahead: one holder at a time, first come, first served. */
export const exclusive: Policy = (ahead) => ahead.at(-1);

/** Why a membership ended. */
export type LineEnd =
  /** The member left, and its key is gone or will be removed by the session's reaper. */
  | { readonly kind: 'left' }
  /** The session's lease ended or can no longer be trusted. */
  | { readonly kind: 'session-lost' }
  /** The own key was removed, or replaced, while the session lived. */
  | { readonly kind: 'place-lost' }
  /** The store refused the key, for a reason that a retry cannot change. */
  | { readonly kind: 'failed'; readonly error: unknown };

export type LineState =
  /** The key may or may not be in the store: the enqueue has no answer yet. */
  | { readonly kind: 'joining' }
  /** In line; reading who is ahead. `watched` is the place a watch is still open on. */
  | { readonly kind: 'looking'; readonly own: bigint; readonly watched: Place | undefined }
  /** In line behind a place that is being watched. */
  | { readonly kind: 'waiting'; readonly own: bigint; readonly watched: Place }
  /** Admitted; the own key is watched, or will be after a short hold. */
  | { readonly kind: 'held'; readonly own: bigint; readonly token: bigint }
  /** Removing the own key. */
  | { readonly kind: 'leaving' }
  | { readonly kind: 'out'; readonly end: LineEnd };

export type LineEvent =
  /** The enqueue created the key at revision `own`, with these places ahead. */
  | { readonly kind: 'joined'; readonly own: bigint; readonly ahead: readonly Place[] }
  /** A repeated enqueue found the key of an earlier attempt whose answer was lost. */
  | { readonly kind: 'found'; readonly own: bigint }
  /** The place of a former process was taken over at `revision`, with these places ahead. */
  | {
      readonly kind: 'resumed';
      readonly own: bigint;
      readonly ahead: readonly Place[];
      readonly revision: bigint;
    }
  /** The store does not know the session's lease any more. */
  | { readonly kind: 'lease-gone' }
  /** The enqueue was refused for good, and the key does not exist or is being removed. */
  | { readonly kind: 'refused'; readonly error: unknown }
  /** One read at `revision`: the own key's create revision, if any, and the places ahead. */
  | {
      readonly kind: 'looked';
      readonly own: bigint | undefined;
      readonly ahead: readonly Place[];
      readonly revision: bigint;
    }
  /** The watched place is gone. */
  | { readonly kind: 'ahead-gone'; readonly place: Place }
  /** The own key was seen deleted or replaced. */
  | { readonly kind: 'own-gone' }
  /** The slow timer fired. */
  | { readonly kind: 'recheck' }
  | { readonly kind: 'session-lost' }
  /** The member wants out: it releases, or gives up waiting. */
  | { readonly kind: 'leave' }
  /** The own key is confirmed gone, or its removal is in the reaper's hands. */
  | { readonly kind: 'left' };

export type LineEffect =
  /** Create the own key if it is absent and read who is ahead, in one transaction. */
  | { readonly kind: 'join' }
  /** Read the own key and the places ahead at one revision, and answer with `looked`. */
  | { readonly kind: 'look'; readonly own: bigint }
  /** Watch a place from this revision on; replaces the watch on any other place. */
  | { readonly kind: 'watch-ahead'; readonly place: Place; readonly from: bigint }
  | { readonly kind: 'unwatch-ahead' }
  /** Watch the own key; `soon` is false when a short hold should not pay for it. */
  | { readonly kind: 'watch-own'; readonly own: bigint; readonly soon: boolean }
  | { readonly kind: 'unwatch-own' }
  /** Ask for a `recheck` after the slow, jittered delay. */
  | { readonly kind: 'recheck-later' }
  | { readonly kind: 'cancel-recheck' }
  | { readonly kind: 'granted'; readonly own: bigint; readonly token: bigint }
  /** Delete the own key, fenced by its create revision; `undefined` when that is unknown. */
  | { readonly kind: 'withdraw'; readonly own: bigint | undefined }
  | { readonly kind: 'ended'; readonly end: LineEnd };

export type Step = { readonly state: LineState; readonly effects: readonly LineEffect[] };

/** The first step of a membership. */
export function begin(): Step {
  return { state: { kind: 'joining' }, effects: [{ kind: 'join' }] };
}

/** Advances one membership by one event. Events that no longer matter change nothing. */
export function step(policy: Policy, state: LineState, event: LineEvent): Step {
  if (state.kind === 'out') return stay(state);
  switch (event.kind) {
    case 'joined':
      if (state.kind !== 'joining') return stay(state);
      return settle(policy, event.own, event.own, event.ahead, undefined);
    case 'found':
      if (state.kind !== 'joining') return stay(state);
      return look(event.own, undefined);
    case 'resumed':
      if (state.kind !== 'joining') return stay(state);
      return settle(policy, event.own, event.revision, event.ahead, undefined);
    case 'lease-gone':
    case 'session-lost':
      return finish({ kind: 'session-lost' });
    case 'refused':
      if (state.kind !== 'joining' && state.kind !== 'looking') return stay(state);
      return finish({ kind: 'failed', error: event.error });
    case 'looked':
      return looked(policy, state, event);
    case 'ahead-gone':
      return aheadGone(state, event.place);
    case 'own-gone':
      // A member that is leaving deletes the key itself.
      if (state.kind === 'joining' || state.kind === 'leaving') return stay(state);
      return finish({ kind: 'place-lost' });
    case 'recheck':
      return recheck(state);
    case 'leave':
      return leave(state);
    case 'left':
      if (state.kind !== 'leaving') return stay(state);
      return finish({ kind: 'left' });
  }
}

function looked(
  policy: Policy,
  state: LineState,
  event: Extract<LineEvent, { kind: 'looked' }>,
): Step {
  if (state.kind !== 'looking' && state.kind !== 'held') return stay(state);
  if (event.own !== state.own) return finish({ kind: 'place-lost' });
  // A holder re-reads only to learn whether its place is still there: nobody gets ahead of it.
  if (state.kind === 'held') return { state, effects: [{ kind: 'recheck-later' }] };
  return settle(policy, state.own, event.revision, event.ahead, state.watched);
}

/** Turns one consistent view of the line into a grant or a wait. The only place that grants. */
function settle(
  policy: Policy,
  own: bigint,
  revision: bigint,
  ahead: readonly Place[],
  watched: Place | undefined,
): Step {
  const blocker = policy(ahead);
  if (blocker === undefined) {
    // The revision of the reply that showed the grant is the fencing token. The next grant needs
    // this key's delete first, which takes a higher revision: tokens strictly rise.
    const waited = revision !== own;
    return {
      state: { kind: 'held', own, token: revision },
      effects: [
        ...(watched === undefined ? [] : [{ kind: 'unwatch-ahead' } as const]),
        { kind: 'watch-own', own, soon: waited },
        { kind: 'recheck-later' },
        { kind: 'granted', own, token: revision },
      ],
    };
  }
  const same = watched?.key === blocker.key && watched.createRevision === blocker.createRevision;
  return {
    state: { kind: 'waiting', own, watched: blocker },
    effects: [
      // The read at `revision` saw the place; everything later comes through the watch.
      ...(same ? [] : [{ kind: 'watch-ahead', place: blocker, from: revision + 1n } as const]),
      { kind: 'watch-own', own, soon: true },
      { kind: 'recheck-later' },
    ],
  };
}

function aheadGone(state: LineState, place: Place): Step {
  if (state.kind !== 'waiting' && state.kind !== 'looking') return stay(state);
  const { watched } = state;
  if (watched?.key !== place.key || watched.createRevision !== place.createRevision) {
    return stay(state);
  }
  // While a look is under way its answer may be older than this delete. Forgetting the spent watch
  // makes `settle` open a new one from that answer's revision, which delivers the delete again.
  if (state.kind === 'looking') {
    return {
      state: { kind: 'looking', own: state.own, watched: undefined },
      effects: [{ kind: 'unwatch-ahead' }],
    };
  }
  const next = look(state.own, undefined);
  return { state: next.state, effects: [{ kind: 'unwatch-ahead' }, ...next.effects] };
}

function recheck(state: LineState): Step {
  if (state.kind === 'waiting') return look(state.own, state.watched);
  if (state.kind === 'held') return { state, effects: [{ kind: 'look', own: state.own }] };
  return stay(state);
}

function look(own: bigint, watched: Place | undefined): Step {
  return { state: { kind: 'looking', own, watched }, effects: [{ kind: 'look', own }] };
}

function leave(state: LineState): Step {
  if (state.kind === 'leaving' || state.kind === 'out') return stay(state);
  const own = state.kind === 'joining' ? undefined : state.own;
  return { state: { kind: 'leaving' }, effects: [...silence, { kind: 'withdraw', own }] };
}

function finish(end: LineEnd): Step {
  return { state: { kind: 'out', end }, effects: [...silence, { kind: 'ended', end }] };
}

const silence = [
  { kind: 'unwatch-ahead' },
  { kind: 'unwatch-own' },
  { kind: 'cancel-recheck' },
] as const satisfies readonly LineEffect[];

function stay(state: LineState): Step {
  return { state, effects: [] };
}
