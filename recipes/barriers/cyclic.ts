/**
 * One wait of one party at a cyclic barrier. The parties of a generation wait until all are there; the
 * last one runs the barrier's action and lets them all go on; then the next generation begins. When a
 * party gives up or dies, the generation is broken: all that wait in it are told, and so is whoever
 * comes, until somebody resets the barrier.
 *
 * This file is the algorithm and nothing else: it does no I/O, reads no clock and rolls no dice;
 * `cyclic-party.ts` runs the effects. The invariants, and where they are kept:
 *
 * - C1 A generation ends once: the record moves from open to complete or to broken by a comparison of
 *   its text, and every party takes its outcome from the record (`judge`).
 * - C2 Complete means that exactly as many parties arrived as it takes, and that all of them stood at
 *   one revision: each arrival rewrites a key blindly, whose version therefore counts them, no party
 *   is let in beyond the last, and `trip` compares the keys of all.
 * - C3 A party that goes is noticed: each follows the one before it, the oldest follows all, and a
 *   count that falls short of the arrivals shows what no watch did (`settle`).
 * - C4 Only the last party runs the action, once, before anybody goes on.
 * - C5 Giving up is decided by the store as well: who gives up too late has passed (`judge`).
 *
 * After java.util.concurrent.CyclicBarrier.
 */
import type { Break, BreakReason } from './broken.ts';

export type CyclicRecord = {
  readonly parties: number;
  /** Rises by one when a generation is complete, and with each reset; the first is 1. */
  readonly generation: number;
  /** Set when the generation is broken. */
  readonly broken: Break | undefined;
  /** The last generations that were broken and then reset, ascending. */
  readonly past: readonly number[];
  /** As it is written, if it has been read: conditions compare the text. */
  readonly text?: string;
};

/** How many broken generations are remembered. */
export const pastMax = 16;

/** The party that another one follows. */
export type Elder = { readonly key: string };

/** The own generation at one revision. */
export type CyclicView = {
  readonly revision: bigint;
  readonly record: CyclicRecord | undefined;
  /** The create revision of the own key, if it is there. */
  readonly own: bigint | undefined;
  /** How many parties have arrived, ever. */
  readonly arrivals: number;
  /** How many are there. */
  readonly present: number;
  /** The party that arrived right before this one, if any is there that did. */
  readonly elder: Elder | undefined;
};

export type CyclicEnd =
  | { readonly kind: 'passed'; readonly generation: number; readonly position: number }
  | {
      readonly kind: 'broken';
      readonly generation: number;
      readonly reason: BreakReason;
      readonly broken: Break | undefined;
    }
  /** It gave up, or its action failed. */
  | { readonly kind: 'gave-up'; readonly error: unknown }
  | { readonly kind: 'session-lost' }
  /** The store refused something, for a reason that a retry cannot change. */
  | { readonly kind: 'failed'; readonly error: unknown };

type Place = {
  readonly generation: number;
  readonly own: bigint;
  /** The how-manieth it was to arrive, from 1. */
  readonly position: number;
};

export type CyclicState =
  /** The key may or may not be in the store. */
  | { readonly kind: 'entering' }
  /** All parties of this generation are there, and its end is near: waits for the next. */
  | { readonly kind: 'full'; readonly generation: number }
  /** Was there before; finds out its position. */
  | { readonly kind: 'locating'; readonly generation: number; readonly own: bigint }
  | ({ readonly kind: 'waiting' } & Place)
  /** The last one: its action runs. */
  | ({ readonly kind: 'acting' } & Place)
  /** The last one: lets all go on. */
  | ({ readonly kind: 'tripping' } & Place)
  /** Breaks the generation; `error` is the own reason, if it has one. */
  | ({ readonly kind: 'breaking'; readonly error: { readonly cause: unknown } | undefined } & Place)
  /** Gave up before the entry was answered. */
  | { readonly kind: 'withdrawing'; readonly error: unknown }
  | { readonly kind: 'out'; readonly end: CyclicEnd };

export type CyclicEvent =
  | {
      readonly kind: 'entered';
      readonly generation: number;
      readonly position: number;
      readonly view: CyclicView;
    }
  /** A repeated entry found the key of an earlier attempt whose answer was lost. */
  | { readonly kind: 'found'; readonly generation: number; readonly own: bigint }
  | { readonly kind: 'located'; readonly position: number; readonly view: CyclicView }
  /** No more parties are let into this generation. */
  | { readonly kind: 'full'; readonly generation: number; readonly revision: bigint }
  /** The store refused for good. */
  | { readonly kind: 'refused'; readonly error: unknown }
  | { readonly kind: 'viewed'; readonly view: CyclicView }
  | { readonly kind: 'record-seen'; readonly record: CyclicRecord | undefined }
  | { readonly kind: 'party-gone' }
  | { readonly kind: 'acted' }
  | { readonly kind: 'action-failed'; readonly error: unknown }
  | { readonly kind: 'give-up'; readonly reason: BreakReason; readonly error: unknown }
  /** The key is confirmed gone, or its removal is in the reaper's hands. */
  | { readonly kind: 'withdrawn' }
  | { readonly kind: 'session-lost' }
  /** The slow timer fired, or a watch cannot tell what happened. */
  | { readonly kind: 'recheck' };

export type CyclicEffect =
  | { readonly kind: 'enter' }
  /** Find out the own position; answer with `located`. */
  | { readonly kind: 'locate'; readonly generation: number; readonly own: bigint }
  /** Answer with `viewed`. */
  | { readonly kind: 'look'; readonly generation: number; readonly own: bigint | undefined }
  | { readonly kind: 'watch-record'; readonly revision: bigint }
  /** Follow the party before this one, or all if there is none. */
  | {
      readonly kind: 'watch-parties';
      readonly generation: number;
      readonly elder: Elder | undefined;
      readonly revision: bigint;
    }
  | { readonly kind: 'act'; readonly generation: number }
  /** Declare the generation complete if all parties stand; answer with `viewed`. */
  | { readonly kind: 'trip'; readonly generation: number; readonly own: bigint }
  /** Declare it broken unless it has ended; answer with `record-seen`. */
  | { readonly kind: 'break'; readonly generation: number; readonly reason: BreakReason }
  | { readonly kind: 'recheck-later' }
  | { readonly kind: 'withdraw' }
  | { readonly kind: 'ended'; readonly end: CyclicEnd };

export type CyclicStep = {
  readonly state: CyclicState;
  readonly effects: readonly CyclicEffect[];
};

export const beginCyclic = (): CyclicStep => ({
  state: { kind: 'entering' },
  effects: [{ kind: 'enter' }],
});

export type CyclicRules = { readonly parties: number; readonly hasAction: boolean };

/** Advances one wait by one event. Events that no longer matter change nothing. */
export function stepCyclic(rules: CyclicRules, state: CyclicState, event: CyclicEvent): CyclicStep {
  if (state.kind === 'out') return stay(state);
  switch (event.kind) {
    case 'entered': {
      const { generation, position, view } = event;
      if (state.kind !== 'entering' || view.own === undefined) return stay(state);
      return settle(rules, { generation, own: view.own, position }, view, false);
    }
    case 'found': {
      if (state.kind !== 'entering') return stay(state);
      const { generation, own } = event;
      return {
        state: { kind: 'locating', generation, own },
        effects: [{ kind: 'locate', generation, own }],
      };
    }
    case 'located': {
      if (state.kind !== 'locating') return stay(state);
      const { generation, own } = state;
      return settle(rules, { generation, own, position: event.position }, event.view, false);
    }
    case 'full': {
      if (state.kind !== 'entering') return stay(state);
      const { generation, revision } = event;
      const effects = [{ kind: 'watch-record', revision }, { kind: 'recheck-later' }] as const;
      return { state: { kind: 'full', generation }, effects };
    }
    case 'refused':
      return finish({ kind: 'failed', error: event.error });
    case 'viewed':
      return viewed(rules, state, event.view);
    case 'record-seen':
      return recordSeen(state, event.record);
    case 'party-gone':
      return isThere(state) ? breakOff(state, 'gone') : stay(state);
    case 'acted': {
      if (state.kind !== 'acting') return stay(state);
      const { generation, own } = state;
      return {
        state: { ...state, kind: 'tripping' },
        effects: [{ kind: 'trip', generation, own }],
      };
    }
    case 'action-failed':
      if (state.kind !== 'acting') return stay(state);
      return breakOff(state, 'action', { cause: event.error });
    case 'give-up':
      return giveUp(state, event.reason, event.error);
    case 'withdrawn':
      if (state.kind !== 'withdrawing') return stay(state);
      return finish({ kind: 'gave-up', error: state.error });
    case 'session-lost':
      return finish({ kind: 'session-lost' });
    case 'recheck':
      return recheck(state);
  }
}

/** What the record says of a generation: nothing as long as it is open. */
export function judge(
  generation: number,
  record: CyclicRecord | undefined,
): { passed: true } | { reason: BreakReason; broken: Break | undefined } | undefined {
  // Removed by hand, or the store went back to a snapshot: this generation will not end.
  if (record === undefined || record.generation < generation) {
    return { reason: 'unknown', broken: undefined };
  }
  const { broken, past } = record;
  if (record.generation === generation) return broken && { reason: broken.reason, broken };
  if (past.includes(generation)) return { reason: 'reset', broken: undefined };
  const [oldest = 0] = past;
  if (past.length >= pastMax && generation < oldest)
    return { reason: 'unknown', broken: undefined };
  return { passed: true };
}

/** Turns one consistent view of the own generation into its end, a wait, or the last party's turn. */
function settle(rules: CyclicRules, at: Place, view: CyclicView, hasActed: boolean): CyclicStep {
  const { generation, own, position } = at;
  const place = { generation, own, position };
  const verdict = judge(generation, view.record);
  if (verdict !== undefined) return conclude(place, verdict);
  if (view.own !== own || view.present < view.arrivals) return breakOff(place, 'gone');
  const { revision, elder } = view;
  const watches = [
    { kind: 'watch-record', revision },
    { kind: 'watch-parties', generation, elder, revision },
    { kind: 'recheck-later' },
  ] as const;
  if (position < rules.parties) return { state: { kind: 'waiting', ...place }, effects: watches };
  if (hasActed || !rules.hasAction) {
    const effects = [{ kind: 'trip', generation, own } as const];
    return { state: { kind: 'tripping', ...place }, effects };
  }
  return {
    state: { kind: 'acting', ...place },
    effects: [...watches, { kind: 'act', generation }],
  };
}

function viewed(rules: CyclicRules, state: CyclicState, view: CyclicView): CyclicStep {
  if (state.kind === 'full') return recordSeen(state, view.record, view.revision);
  if (state.kind === 'waiting') return settle(rules, state, view, false);
  if (state.kind === 'tripping') return settle(rules, state, view, true);
  if (state.kind !== 'acting') return stay(state);
  // The action goes on: only what ends it matters.
  const { generation, own } = state;
  const verdict = judge(generation, view.record);
  if (verdict !== undefined) return conclude(state, verdict);
  if (view.own !== own || view.present < view.arrivals) return breakOff(state, 'gone');
  const { revision, elder } = view;
  return {
    state,
    effects: [
      { kind: 'watch-record', revision },
      { kind: 'watch-parties', generation, elder, revision },
      { kind: 'recheck-later' },
    ],
  };
}

function recordSeen(
  state: CyclicState,
  record: CyclicRecord | undefined,
  revision?: bigint,
): CyclicStep {
  if (state.kind === 'full') {
    const isSame = record?.generation === state.generation && record.broken === undefined;
    if (!isSame) return beginCyclic();
    const watch = revision === undefined ? [] : ([{ kind: 'watch-record', revision }] as const);
    return { state, effects: [...watch, { kind: 'recheck-later' }] };
  }
  if (!isThere(state) && state.kind !== 'breaking') return stay(state);
  const verdict = judge(state.generation, record);
  return verdict === undefined ? stay(state) : conclude(state, verdict);
}

function conclude(
  place: Place | Extract<CyclicState, { kind: 'breaking' }>,
  verdict: NonNullable<ReturnType<typeof judge>>,
): CyclicStep {
  const { generation, position } = place;
  if ('passed' in verdict) return finish({ kind: 'passed', generation, position });
  const { reason, broken } = verdict;
  const error = 'error' in place ? place.error : undefined;
  if (error !== undefined) return finish({ kind: 'gave-up', error: error.cause });
  return finish({ kind: 'broken', generation, reason, broken });
}

function breakOff(
  { generation, own, position }: Place,
  reason: BreakReason,
  error?: { readonly cause: unknown },
): CyclicStep {
  return {
    state: { kind: 'breaking', generation, own, position, error },
    effects: [{ kind: 'break', generation, reason }],
  };
}

function giveUp(state: CyclicState, reason: BreakReason, cause: unknown): CyclicStep {
  switch (state.kind) {
    case 'entering':
    case 'locating':
      return { state: { kind: 'withdrawing', error: cause }, effects: [{ kind: 'withdraw' }] };
    case 'full':
      return finish({ kind: 'gave-up', error: cause });
    case 'waiting':
    case 'acting':
    case 'tripping':
      return breakOff(state, reason, { cause });
    default:
      return stay(state);
  }
}

function recheck(state: CyclicState): CyclicStep {
  if (state.kind === 'full') {
    const { generation } = state;
    return { state, effects: [{ kind: 'look', generation, own: undefined }] };
  }
  if (state.kind !== 'waiting' && state.kind !== 'acting') return stay(state);
  const { generation, own } = state;
  return { state, effects: [{ kind: 'look', generation, own }] };
}

const finish = (end: CyclicEnd): CyclicStep => ({
  state: { kind: 'out', end },
  effects: [{ kind: 'ended', end }],
});

const stay = (state: CyclicState): CyclicStep => ({ state, effects: [] });

type There = Extract<CyclicState, { kind: 'waiting' | 'acting' | 'tripping' }>;

const isThere = (state: CyclicState): state is There =>
  state.kind === 'waiting' || state.kind === 'acting' || state.kind === 'tripping';
