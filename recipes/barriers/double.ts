/**
 * One party of a double barrier, from entering to leaving. Parties enter together, once there are
 * enough of them, and leave together, once all have left.
 *
 * Parties gather in generations. Each owns a key in the folder of the generation that forms:
 *
 *     …/in/7/…4a-7f   create revision 112   counted
 *     …/in/7/…90-01   create revision 118   counted: the second of two
 *     …/in/7/…4a-c3   create revision 121   came too late; moves on to 8
 *     …/ready/7       through 118           written when 118 saw that there are two
 *
 * This file is the algorithm and nothing else: it does no I/O, reads no clock and rolls no dice;
 * `double-member.ts` runs the effects. The invariants, and where they are kept:
 *
 * - D1 A generation is exactly as many parties as it takes. `form` writes `ready` under the condition
 *   that the keys of all counted parties stand, and moves on the generation in the same transaction;
 *   a party is inside only if its own key is among them (`settle`).
 * - D2 Nobody is let in by a broken watch: only by `ready`, seen written or read.
 * - D3 No lost wake-up. Watches start at the revision after the look they belong to, and a slow
 *   look covers a store that lost events. Whoever sees enough parties tries to form, so the death
 *   of the last one strands nobody.
 * - D4 Whoever leaves waits for all that are inside, and for nobody else. The oldest stays until it
 *   is alone, and says so in its key; the others follow the oldest and nobody else, so n parties
 *   cost n wake-ups. Should the oldest die, the next one takes its part.
 * - D5 A lost place is never inside; nothing is granted after `leave`.
 *
 * After the double barrier of ZooKeeper (https://zookeeper.apache.org/doc/current/recipes.html), with
 * generations, and with separate watches for entering and leaving (apache/curator PR#416).
 */
import type { LineEnd } from '../line/line.ts';

/** `ready` of a generation: parties up to this create revision are inside. */
export type Ready = { readonly through: bigint; readonly revision: bigint };

/** A party that others wait for. */
export type Party = {
  readonly key: string;
  readonly createRevision: bigint;
  /** It was the oldest, and all others had left. */
  readonly over: boolean;
};

/** The own generation at one revision, as a party sees it that wants in. */
export type EntryView = {
  readonly revision: bigint;
  /** The create revision of the own key, if it is there. */
  readonly own: bigint | undefined;
  /** The generation that forms now; undefined when the store knows of none. */
  readonly forming: number | undefined;
  readonly ready: Ready | undefined;
  /** How many parties are in the own generation's folder. */
  readonly present: number;
};

/** Who is still inside at one revision, as a party sees it that wants out. */
export type ExitView = {
  readonly revision: bigint;
  readonly own: bigint | undefined;
  readonly oldest: Party | undefined;
  readonly newest: Party | undefined;
};

/** A place in a generation. */
type Place = { readonly generation: number; readonly own: bigint };
type Inside = Place & { readonly ready: Ready };

export type DoubleState =
  /** The key may or may not be in the store: the entry has no answer yet. */
  | { readonly kind: 'entering' }
  /** In the folder. `busy` while a look or an attempt to form is under way. */
  | ({ readonly kind: 'waiting'; readonly busy: boolean } & Place)
  | ({ readonly kind: 'inside' } & Inside)
  /** Wants out; waits for an answer about who is inside. */
  | ({ readonly kind: 'leaving' } & Inside)
  /** The oldest: stays until it is alone. */
  | ({ readonly kind: 'staying'; readonly watched: Party } & Inside)
  /** Its key is gone; waits for the oldest to say that it is alone. */
  | ({ readonly kind: 'gone'; readonly watched: Party } & Inside)
  /** Removes its key without waiting for anybody. */
  | { readonly kind: 'withdrawing' }
  | { readonly kind: 'out'; readonly end: LineEnd };

export type DoubleEvent =
  /** The entry created the key in this generation, which looked like this. */
  | { readonly kind: 'entered'; readonly generation: number; readonly view: EntryView }
  /** A repeated entry found the key of an earlier attempt whose answer was lost. */
  | { readonly kind: 'found'; readonly generation: number; readonly own: bigint }
  /** The store refused an entry, a look or a step out, for a reason that a retry cannot change. */
  | { readonly kind: 'refused'; readonly error: unknown }
  /** A look, or what an attempt to form came to. */
  | { readonly kind: 'viewed'; readonly view: EntryView }
  | { readonly kind: 'ready-seen'; readonly ready: Ready }
  | { readonly kind: 'own-gone' }
  /** What a step to leave, or a look at who is inside, came to. */
  | { readonly kind: 'exit-viewed'; readonly view: ExitView }
  /** The oldest says that all have left, or has been told so as the oldest. */
  | { readonly kind: 'all-left' }
  /** The party that is waited for is gone. */
  | { readonly kind: 'party-gone'; readonly party: Party }
  /** The slow timer fired, or a watch cannot tell what happened. */
  | { readonly kind: 'recheck' }
  | { readonly kind: 'session-lost' }
  /** Wants out: leaves with the others, or gives up waiting to get in. */
  | { readonly kind: 'leave' }
  /** Waits no longer for the others to leave. */
  | { readonly kind: 'give-up' }
  /** The own key is confirmed gone, or its removal is in the reaper's hands. */
  | { readonly kind: 'withdrawn' };

export type DoubleEffect =
  /** Create the own key in the generation that forms; removes the one of an earlier generation. */
  | { readonly kind: 'enter' }
  | { readonly kind: 'look'; readonly generation: number }
  /** Declare the generation complete, if its first parties are all there; answer with `viewed`. */
  | { readonly kind: 'form'; readonly generation: number }
  | ({ readonly kind: 'watch-entry'; readonly revision: bigint } & Place)
  | ({ readonly kind: 'watch-own'; readonly revision: bigint } & Place)
  | { readonly kind: 'granted'; readonly own: bigint; readonly token: bigint }
  /** Remove the own key unless it is the oldest; answer with `exit-viewed` or `all-left`. */
  | ({ readonly kind: 'exit' } & Inside)
  | ({ readonly kind: 'look-out' } & Inside)
  | { readonly kind: 'watch-party'; readonly party: Party; readonly revision: bigint }
  /** Say in the own key that all have left. */
  | ({ readonly kind: 'say-all-left' } & Inside)
  | { readonly kind: 'unwatch-entry' }
  | { readonly kind: 'unwatch' }
  | { readonly kind: 'recheck-later' }
  | { readonly kind: 'withdraw' }
  | { readonly kind: 'ended'; readonly end: LineEnd };

export type DoubleStep = {
  readonly state: DoubleState;
  readonly effects: readonly DoubleEffect[];
};

export const beginDouble = (): DoubleStep => ({
  state: { kind: 'entering' },
  effects: [{ kind: 'enter' }],
});

/** Advances one party by one event. Events that no longer matter change nothing. */
export function stepDouble(parties: number, state: DoubleState, event: DoubleEvent): DoubleStep {
  if (state.kind === 'out') return stay(state);
  switch (event.kind) {
    case 'entered': {
      const { generation, view } = event;
      if (state.kind !== 'entering' || view.own === undefined) return stay(state);
      return settle(parties, { generation, own: view.own }, view);
    }
    case 'found': {
      if (state.kind !== 'entering') return stay(state);
      const { generation, own } = event;
      const effects = [{ kind: 'look', generation } as const];
      return { state: { kind: 'waiting', busy: true, generation, own }, effects };
    }
    case 'refused':
      if (state.kind === 'inside' || state.kind === 'withdrawing') return stay(state);
      return finish({ kind: 'failed', error: event.error });
    case 'viewed':
      if (state.kind === 'inside') return confirm(state, event.view);
      if (state.kind !== 'waiting') return stay(state);
      return settle(parties, state, event.view);
    case 'ready-seen':
      if (state.kind !== 'waiting') return stay(state);
      return decide(state, event.ready);
    case 'own-gone':
      if (state.kind !== 'waiting' && state.kind !== 'inside') return stay(state);
      return finish({ kind: 'place-lost' });
    case 'exit-viewed':
      return settleExit(state, event.view);
    case 'all-left':
      if (!isLeaving(state)) return stay(state);
      return finish({ kind: 'left' });
    case 'party-gone':
      return partyGone(state, event.party);
    case 'recheck':
      return recheck(state);
    case 'session-lost':
      return finish({ kind: 'session-lost' });
    case 'leave':
      return leave(state);
    case 'give-up':
      return isLeaving(state) ? withdraw() : stay(state);
    case 'withdrawn':
      return state.kind === 'withdrawing' ? finish({ kind: 'left' }) : stay(state);
  }
}

/** Turns one consistent view of the own generation into a wait, a step on, or the way in. */
function settle(parties: number, place: Place, view: EntryView): DoubleStep {
  const { generation, own } = place;
  if (view.own !== own) return finish({ kind: 'place-lost' });
  if (view.ready !== undefined) return decide(place, view.ready);
  // It was complete without this one and is over already; or the store went back to a snapshot.
  if (view.forming !== generation) return moveOn();
  const watches = [
    { kind: 'watch-entry', generation, own, revision: view.revision },
    { kind: 'watch-own', generation, own, revision: view.revision },
    { kind: 'recheck-later' },
  ] as const;
  const state = { kind: 'waiting', generation, own } as const;
  if (view.present < parties) return { state: { ...state, busy: false }, effects: watches };
  return { state: { ...state, busy: true }, effects: [{ kind: 'form', generation }] };
}

/** The only place that lets a party in. */
function decide({ generation, own }: Place, ready: Ready): DoubleStep {
  if (own > ready.through) return moveOn();
  return {
    state: { kind: 'inside', generation, own, ready },
    effects: [
      { kind: 'unwatch-entry' },
      { kind: 'watch-own', generation, own, revision: ready.revision },
      { kind: 'recheck-later' },
      { kind: 'granted', own, token: ready.revision },
    ],
  };
}

const moveOn = (): DoubleStep => ({
  state: { kind: 'entering' },
  effects: [{ kind: 'unwatch' }, { kind: 'enter' }],
});

function confirm(
  state: Extract<DoubleState, { kind: 'inside' }>,
  { own, revision }: EntryView,
): DoubleStep {
  if (own !== state.own) return finish({ kind: 'place-lost' });
  const { generation } = state;
  const watch = { kind: 'watch-own', generation, own, revision } as const;
  return { state, effects: [watch, { kind: 'recheck-later' }] };
}

function settleExit(state: DoubleState, view: ExitView): DoubleStep {
  if (!isLeaving(state)) return stay(state);
  const { generation, own, ready } = state;
  const inside = { generation, own, ready };
  const { revision, oldest, newest } = view;
  const watch = (party: Party) =>
    [{ kind: 'watch-party', party, revision }, { kind: 'recheck-later' }] as const;
  if (view.own === own) {
    const leaving = { kind: 'leaving', ...inside } as const;
    if (oldest?.createRevision !== own) {
      return { state: leaving, effects: [{ kind: 'exit', ...inside }] };
    }
    if (newest === undefined || newest.createRevision === own) {
      return { state: leaving, effects: [{ kind: 'say-all-left', ...inside }] };
    }
    return { state: { kind: 'staying', watched: newest, ...inside }, effects: watch(newest) };
  }
  if (oldest === undefined || oldest.over) return finish({ kind: 'left' });
  return { state: { kind: 'gone', watched: oldest, ...inside }, effects: watch(oldest) };
}

function partyGone(state: DoubleState, { key }: Party): DoubleStep {
  if (state.kind !== 'staying' && state.kind !== 'gone') return stay(state);
  if (state.watched.key !== key) return stay(state);
  return lookOut(state);
}

function recheck(state: DoubleState): DoubleStep {
  switch (state.kind) {
    case 'waiting': {
      if (state.busy) return stay(state);
      const { generation } = state;
      return { state: { ...state, busy: true }, effects: [{ kind: 'look', generation }] };
    }
    case 'inside':
      return { state, effects: [{ kind: 'look', generation: state.generation }] };
    case 'staying':
    case 'gone':
      return lookOut(state);
    default:
      return stay(state);
  }
}

const lookOut = ({ generation, own, ready }: Inside): DoubleStep => ({
  state: { kind: 'leaving', generation, own, ready },
  effects: [{ kind: 'look-out', generation, own, ready }],
});

function leave(state: DoubleState): DoubleStep {
  if (state.kind === 'entering' || state.kind === 'waiting') return withdraw();
  if (state.kind !== 'inside') return stay(state);
  const { generation, own, ready } = state;
  return {
    state: { kind: 'leaving', generation, own, ready },
    effects: [{ kind: 'unwatch' }, { kind: 'exit', generation, own, ready }],
  };
}

const withdraw = (): DoubleStep => ({
  state: { kind: 'withdrawing' },
  effects: [{ kind: 'unwatch' }, { kind: 'withdraw' }],
});

const finish = (end: LineEnd): DoubleStep => ({
  state: { kind: 'out', end },
  effects: [{ kind: 'unwatch' }, { kind: 'ended', end }],
});

const stay = (state: DoubleState): DoubleStep => ({ state, effects: [] });

type Leaving = Extract<DoubleState, { kind: 'leaving' | 'staying' | 'gone' }>;

const isLeaving = (state: DoubleState): state is Leaving =>
  state.kind === 'leaving' || state.kind === 'staying' || state.kind === 'gone';
