/**
 * The election by priority: who leads is what one explicit key, the leader key, says.
 *
 *     conclave/election/db/…4a-7f    create revision 112   priority 1   leads
 *     conclave/election/db/…90-01    create revision 118   priority 5   would lead next
 *     conclave/election/db/leader    mod revision 130      …4a-7f
 *
 * The leader key is written only when the leadership changes hands, so its mod revision is the term.
 * It is attached to the leader's own lease. A vacancy is filled by a transaction that creates the key;
 * candidates try in the order of their ranks, each a little later than the one above. A leader hands
 * over by a transaction that rewrites the key, so that there is no moment without a leader.
 *
 * This file is the algorithm and nothing else: `step(self, state, event)` returns the next state and
 * the effects to run. It does no I/O, reads no clock and rolls no dice; `priority-driver.ts` runs the
 * effects against a store. The invariants, and where they are kept:
 *
 * - P1 One leader per term. A member leads only in a term whose leader key names its own key: it wrote
 *   it under the condition that there was none and its own key stood (`take`), or the leader before it
 *   did, under the condition that its own term and this member's key stood; or it went on in place of a
 *   former process of its session, under the condition that that one's term and key stood.
 * - P2 What is older than what the member knows decides nothing: views from before the own term do not
 *   end it, and views from before a lost race do not start another (`heldSaw`, `wait`).
 * - P3 A lost place is never held. The own key missing or replaced, the leader key missing or rewritten,
 *   or the end of the session ends the membership.
 * - P4 Leaving is final. After `leave` nothing is granted, whatever replies are still under way.
 * - P5 A leader makes way only for a request that stood all the while that the delay lasted
 *   (`weigh`): a candidate that comes and goes does not move the leadership about.
 */
import type { LineEnd } from '../line/line.ts';

/** A candidate other than the member itself. */
export type Rival = {
  readonly key: string;
  readonly createRevision: bigint;
  readonly priority: number;
};

/** An election at one revision, as one member looks at it. */
export type Roll = {
  readonly revision: bigint;
  /** The revisions of the store ran backwards since the last roll: what was known before is void. */
  readonly rewound: boolean;
  /** The create revision of the own key. */
  readonly own: bigint | undefined;
  /** The candidate that the leader key names, and the mod revision of that key. */
  readonly leader: { readonly key: string; readonly term: bigint } | undefined;
  /** How many candidates rank above this one. */
  readonly above: number;
  /** The highest-ranked of those that ask this member to make way and outrank it. */
  readonly request: Rival | undefined;
};

export type PriorityState =
  /** The key may or may not be in the store: the enqueue has no answer yet. */
  | { readonly kind: 'joining' }
  /**
   * A candidate. `armed` is the rank that the vacancy timer was set for; what is older than `since` is
   * known to be outdated.
   */
  | {
      readonly kind: 'waiting';
      readonly own: bigint;
      readonly armed: number | undefined;
      readonly since: bigint;
    }
  /** Trying to fill a vacancy. `latest` is the newest roll that came meanwhile. */
  | { readonly kind: 'taking'; readonly own: bigint; readonly latest: Roll | undefined }
  /** Leads. `weighing` is the request whose delay is running, or has run. */
  | {
      readonly kind: 'held';
      readonly own: bigint;
      readonly term: bigint;
      readonly weighing: string | undefined;
    }
  | { readonly kind: 'leaving' }
  | { readonly kind: 'out'; readonly end: LineEnd };

export type PriorityEvent =
  /** The enqueue created the key; the roll is of that very revision. */
  | { readonly kind: 'joined'; readonly roll: Roll }
  /** A repeated enqueue found the key of an earlier attempt whose answer was lost. */
  | { readonly kind: 'found'; readonly own: bigint }
  /** A listing or a watch shows a later state. */
  | { readonly kind: 'saw'; readonly roll: Roll }
  /** The vacancy timer fired. */
  | { readonly kind: 'due' }
  /** The leader key names this member, in this term. */
  | { readonly kind: 'took'; readonly term: bigint }
  /** Another one was first, in this term. */
  | { readonly kind: 'beaten'; readonly term: bigint }
  /** The request has stood for the whole delay. */
  | { readonly kind: 'ripe'; readonly key: string }
  /** The own key was found deleted or replaced. */
  | { readonly kind: 'own-gone' }
  | { readonly kind: 'lease-gone' }
  /** The store refused for good, and the key does not exist or is being removed. */
  | { readonly kind: 'refused'; readonly error: unknown }
  | { readonly kind: 'session-lost' }
  | { readonly kind: 'leave' }
  | { readonly kind: 'left' };

export type PriorityEffect =
  /** Create the own key, and the leader key too if there is nobody else, and read the election. */
  | { readonly kind: 'join' }
  /** Read the election, and follow it from there. */
  | { readonly kind: 'look' }
  /** Follow the election from the last roll on; `soon` is false when a short term should not pay for it. */
  | { readonly kind: 'follow'; readonly soon: boolean }
  /** Fire `due` when this many candidates have had their chance. */
  | { readonly kind: 'wait-turn'; readonly above: number }
  | { readonly kind: 'cancel-turn' }
  /** Create the leader key if there is none and the own key stands. */
  | { readonly kind: 'take'; readonly own: bigint }
  | { readonly kind: 'granted'; readonly own: bigint; readonly term: bigint }
  /** Fire `ripe` when the request has stood for long enough. */
  | { readonly kind: 'weigh'; readonly rival: Rival }
  | { readonly kind: 'cancel-weighing' }
  /** A request is ripe: the leader ought to make way. */
  | { readonly kind: 'asked'; readonly key: string }
  /** Remove the own key; and if this term is given, pass the leadership on or leave it vacant. */
  | {
      readonly kind: 'withdraw';
      readonly own: bigint | undefined;
      readonly term: bigint | undefined;
    }
  | { readonly kind: 'ended'; readonly end: LineEnd };

export type Step = { readonly state: PriorityState; readonly effects: readonly PriorityEffect[] };

type Waiting = Extract<PriorityState, { kind: 'waiting' }>;
type Taking = Extract<PriorityState, { kind: 'taking' }>;
type Held = Extract<PriorityState, { kind: 'held' }>;

/** The first step of a membership. */
export function begin(): Step {
  return { state: { kind: 'joining' }, effects: [{ kind: 'join' }] };
}

/** Advances the member with this key by one event. Events that no longer matter change nothing. */
export function step(self: string, state: PriorityState, event: PriorityEvent): Step {
  if (state.kind === 'out') return stay(state);
  switch (event.kind) {
    case 'joined':
      return state.kind === 'joining' ? joined(self, event.roll) : stay(state);
    case 'found':
      if (state.kind !== 'joining') return stay(state);
      return { state: waiting(event.own), effects: [{ kind: 'look' }] };
    case 'saw':
      return saw(self, state, event.roll);
    case 'due':
      return state.kind === 'waiting' && state.armed !== undefined ? take(state.own) : stay(state);
    case 'took':
      if (state.kind !== 'taking') return stay(state);
      return grant(state.own, event.term, []);
    case 'beaten':
      return state.kind === 'taking' ? beaten(self, state, event.term) : stay(state);
    case 'ripe':
      if (state.kind !== 'held' || state.weighing !== event.key) return stay(state);
      return { state, effects: [{ kind: 'asked', key: event.key }] };
    case 'own-gone':
      // A member that is leaving deletes the key itself.
      if (state.kind === 'joining' || state.kind === 'leaving') return stay(state);
      return finish({ kind: 'place-lost' });
    case 'lease-gone':
    case 'session-lost':
      return finish({ kind: 'session-lost' });
    case 'refused':
      if (state.kind === 'held' || state.kind === 'leaving') return stay(state);
      return finish({ kind: 'failed', error: event.error });
    case 'leave':
      return leave(state);
    case 'left':
      return state.kind === 'leaving' ? finish({ kind: 'left' }) : stay(state);
  }
}

const waiting = (own: bigint, since = 0n): Waiting => ({
  kind: 'waiting',
  own,
  armed: undefined,
  since,
});

function joined(self: string, roll: Roll): Step {
  const { own, leader } = roll;
  if (own === undefined) return finish({ kind: 'place-lost' });
  if (leader?.key === self) {
    return grant(own, leader.term, [{ kind: 'follow', soon: false }]);
  }
  const next = wait(self, waiting(own), roll);
  return { state: next.state, effects: [{ kind: 'follow', soon: true }, ...next.effects] };
}

function saw(self: string, state: PriorityState, roll: Roll): Step {
  switch (state.kind) {
    case 'waiting':
      return wait(self, roll.rewound ? { ...state, since: 0n } : state, roll);
    case 'taking':
      return takingSaw(self, state, roll);
    case 'held':
      return heldSaw(self, state, roll);
    default:
      return stay(state);
  }
}

/** Turns one consistent view of the election into a term, a turn at a vacancy, or more waiting. */
function wait(self: string, state: Waiting, roll: Roll): Step {
  if (roll.own !== state.own) return finish({ kind: 'place-lost' });
  if (roll.leader?.key === self) return grant(state.own, roll.leader.term, [cancelTurn]);
  if (roll.leader) {
    if (state.armed === undefined) return stay(state);
    return { state: { ...state, armed: undefined }, effects: [cancelTurn] };
  }
  // The vacancy of before a race that was lost: the winner's key is on its way.
  if (roll.revision < state.since || state.armed === roll.above) return stay(state);
  if (roll.above === 0) return take(state.own);
  return {
    state: { ...state, armed: roll.above },
    effects: [{ kind: 'wait-turn', above: roll.above }],
  };
}

function takingSaw(self: string, state: Taking, roll: Roll): Step {
  if (roll.own !== state.own) return finish({ kind: 'place-lost' });
  if (roll.leader?.key === self) return grant(state.own, roll.leader.term, []);
  return { state: { ...state, latest: roll }, effects: [] };
}

/** The leader that was met may be gone again by now: what was seen meanwhile tells. */
function beaten(self: string, { own, latest }: Taking, term: bigint): Step {
  const next = waiting(own, term);
  return latest === undefined ? stay(next) : wait(self, next, latest);
}

function heldSaw(self: string, state: Held, roll: Roll): Step {
  // The watch may be behind the answer that told of the term.
  if (roll.revision < state.term && !roll.rewound) return stay(state);
  const stands =
    roll.own === state.own && roll.leader?.key === self && roll.leader.term === state.term;
  return stands ? weigh(state, roll.request) : finish({ kind: 'place-lost' });
}

function weigh(state: Held, request: Rival | undefined): Step {
  if (request?.key === state.weighing) return stay(state);
  return {
    state: { ...state, weighing: request?.key },
    effects: [request ? { kind: 'weigh', rival: request } : { kind: 'cancel-weighing' }],
  };
}

function take(own: bigint): Step {
  return {
    state: { kind: 'taking', own, latest: undefined },
    effects: [cancelTurn, { kind: 'take', own }],
  };
}

/** The only place that grants. */
function grant(own: bigint, term: bigint, effects: readonly PriorityEffect[]): Step {
  return {
    state: { kind: 'held', own, term, weighing: undefined },
    effects: [...effects, { kind: 'granted', own, term }],
  };
}

function leave(state: PriorityState): Step {
  if (state.kind === 'leaving' || state.kind === 'out') return stay(state);
  const own = state.kind === 'joining' ? undefined : state.own;
  const term = state.kind === 'held' ? state.term : undefined;
  return { state: { kind: 'leaving' }, effects: [...silence, { kind: 'withdraw', own, term }] };
}

function finish(end: LineEnd): Step {
  return { state: { kind: 'out', end }, effects: [...silence, { kind: 'ended', end }] };
}

const cancelTurn = { kind: 'cancel-turn' } as const;

const silence = [cancelTurn, { kind: 'cancel-weighing' }] as const satisfies PriorityEffect[];

function stay(state: PriorityState): Step {
  return { state, effects: [] };
}
