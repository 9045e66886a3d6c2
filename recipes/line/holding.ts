/**
 * Holding the head of a line: the handle that mutex and election give out.
 *
 * The handle owns the hold, not the session or the task: two handles of one session exclude each
 * other. It ends once, by release or by loss, and `signal` says why.
 */
import { ConclaveError } from '../../sdk/errors.ts';
import { StateSource } from '../../sdk/observe.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operations, type Txn } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { LazyEnd } from '../common/lazy-end.ts';
import { measureHold } from '../common/measured-hold.ts';
import { type Patience, waitPatiently } from '../common/patience.ts';
import { onAbort } from '../common/signals.ts';
import { stateView, type View } from '../common/view.ts';
import type { RecipeKind } from '../metrics.ts';
import type { LineEnd } from './line.ts';
import { type Grant, LineMember } from './line-driver.ts';
import type { LineView, Membership } from './line-membership.ts';
import { formatSequencer } from './sequencer.ts';

/**
 * - `held`: the session is live and the key is there as far as the store has told.
 * - `suspended`: renewals are failing; the hold still stands but may soon be lost.
 * - `lost`, `released`: over.
 */
export type HoldState = 'held' | 'suspended' | 'lost' | 'released';

export type HoldSubject = {
  readonly recipe: RecipeKind;
  readonly name: string;
  /** The code of a loss that is not the session's. */
  readonly lostCode: 'LOCK_LOST' | 'LEADERSHIP_LOST';
};

/** Whoever is patient no longer leaves the line. */
export type WaitOptions = Patience & {
  readonly maxHoldMs?: number | undefined;
  /** The place that another transaction created, as `adopt` takes it. @default join by itself */
  readonly entered?: LineView | bigint | undefined;
};

/** What a hold needs of the member that holds. */
export type HeldMember = Pick<LineMember, 'key' | 'leave' | 'verify'>;

type Shown = {
  readonly source: StateSource<HoldState>;
  readonly view: View<HoldState>;
  stopFollowing: () => void;
};

export class Holding implements AsyncDisposable {
  readonly session: Session;
  readonly key: string;
  readonly createRevision: bigint;
  /** Strictly rises from holder to holder. */
  readonly token: bigint;
  readonly #context: RecipeContext;
  readonly #subject: HoldSubject;
  readonly #member: HeldMember;
  readonly #end = new LazyEnd();
  readonly #measureEnd: () => void;
  readonly #validUntilMs: number;
  #outcome: 'lost' | 'released' | undefined;
  #shown: Shown | undefined;
  #cancelMaxHold: () => void = () => undefined;
  #released: Promise<void> | undefined;

  constructor(
    context: RecipeContext,
    subject: HoldSubject,
    member: HeldMember,
    grant: Grant,
    maxHoldMs: number | undefined,
  ) {
    const { session } = context;
    const { clock } = session.client;
    this.session = session;
    this.key = member.key;
    this.createRevision = grant.createRevision;
    this.token = grant.token;
    this.#context = context;
    this.#subject = subject;
    this.#member = member;
    this.#measureEnd = measureHold(context.metrics, clock, subject);
    this.#validUntilMs = clock.monotonicMs() + (maxHoldMs ?? Number.POSITIVE_INFINITY);
    if (maxHoldMs !== undefined) {
      this.#cancelMaxHold = clock.setTimer(maxHoldMs, () => this.#outstay());
    }
  }

  /** Aborts when the hold ends: by loss (SESSION_LOST, LOCK_LOST, ...) or by release (RELEASED). */
  get signal(): AbortSignal {
    return this.#end.signal;
  }

  /** Runs the listener at the end of the hold, or now if that has come. */
  onEnd(listener: () => void): void {
    this.#end.onEnd(listener);
  }

  /** Made for the first who asks: most holds are short, and nobody does. */
  get state$(): View<HoldState> {
    this.#shown ??= this.#show();
    return this.#shown.view;
  }

  #show(): Shown {
    const source = new StateSource<HoldState>(this.#outcome ?? 'held');
    const shown = { source, view: stateView(source.observable), stopFollowing: () => {} };
    if (this.#outcome === undefined) {
      const following = this.session.state$.subscribe((state) => {
        if (this.#outcome === undefined && state !== 'lost') {
          source.set(state === 'live' ? 'held' : 'suspended');
        }
      });
      shown.stopFollowing = () => following.unsubscribe();
    } else source.complete();
    return shown;
  }

  /** Names this hold to servers that check it against the store; see `verifySequencer`. */
  get sequencer(): string {
    return formatSequencer({ key: this.key, createRevision: this.createRevision });
  }

  get isHeld(): boolean {
    this.#notice();
    return !this.#end.isOver;
  }

  /**
   * Looks at the clock and at what is known, not at the store; call it before each step that
   * depends on the hold.
   *
   * @throws ConclaveError RELEASED, SESSION_LOST, SESSION_SUSPENDED (session option `onSuspend`
   *   'stop'), LOCK_LOST or LEADERSHIP_LOST
   */
  assertHeld(): void {
    this.#notice();
    this.#end.throwIfOver();
    this.session.assertLive();
  }

  /**
   * The transaction under the condition that this hold still stands when it commits. The only
   * protection that needs no trust in clocks, at no extra exchange.
   *
   * @throws what `assertHeld` throws
   */
  guard<Then extends Operations, Else extends Operations>(txn: Txn<Then, Else>): Txn<Then, Else> {
    this.assertHeld();
    return txn.if(compare.createRevision(this.key, '==', this.createRevision));
  }

  /**
   * Ends the hold; one exchange. Idempotent: later calls return the same promise. Resolves at once
   * when the hold was lost before.
   *
   * @throws ConclaveError when the store did not confirm it in time. The session goes on trying in
   *   the background; until then others wait, at most until the lease runs out.
   */
  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  /** Releases without ever rejecting, so that an error of the body is not hidden. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => undefined);
  }

  /** The loss that ended the hold, if one did. */
  get lostReason(): ConclaveError | undefined {
    this.#notice();
    return this.#outcome === 'lost' ? (this.signal.reason as ConclaveError) : undefined;
  }

  /** Asks the store whether the own key is still there, after a comparison said otherwise. */
  verify(): void {
    this.#member.verify();
  }

  /** Tells the handle how its membership ended. */
  ended(end: LineEnd): void {
    if (end.kind === 'session-lost') this.#lose(sessionLost(this.session));
    else if (end.kind === 'place-lost') {
      const { recipe, name, lostCode } = this.#subject;
      const message = `The key of ${recipe} '${name}' was removed or taken over while it was held`;
      this.#lose(new ConclaveError(lostCode, message));
    }
  }

  async #release(): Promise<void> {
    this.#notice();
    if (!this.#end.isOver) this.#finish('released', () => released(this.#subject));
    await this.#member.leave();
  }

  /** Finds out by the clock what late timers have not said yet. */
  #notice(): void {
    if (this.#end.isOver) return;
    if (this.session.state === 'lost') this.#lose(sessionLost(this.session));
    else if (this.session.client.clock.monotonicMs() >= this.#validUntilMs) this.#outstay();
  }

  #outstay(): void {
    const { recipe, name, lostCode } = this.#subject;
    this.#lose(
      new ConclaveError(lostCode, `The ${recipe} '${name}' was held for its maximum time`),
    );
    void this[Symbol.asyncDispose]();
  }

  #lose(reason: ConclaveError): void {
    if (this.#end.isOver) return;
    // Closing the session or the client gives the hold back: nothing was lost.
    if (reason.code === 'CLOSED') {
      this.#finish('released', () => reason);
      return;
    }
    const { recipe, name } = this.#subject;
    this.#context.metrics.lost({ recipe, name, reason: reason.code });
    this.#finish('lost', () => reason);
  }

  #finish(outcome: 'lost' | 'released', reason: () => ConclaveError): void {
    this.#measureEnd();
    this.#cancelMaxHold();
    this.#outcome = outcome;
    this.#shown?.stopFollowing();
    this.#shown?.source.set(outcome);
    this.#shown?.source.complete();
    this.#end.end(reason);
  }
}

/**
 * Joins a line and waits for its head.
 *
 * @throws ConclaveError NOT_ACQUIRED after the timeout, ABORTED by the signal, SESSION_LOST, the
 *   subject's loss code when the own key was removed while waiting, or the store's refusal
 */
export function waitForHold(
  context: RecipeContext,
  subject: HoldSubject,
  membership: Membership,
  options: WaitOptions,
): Promise<Holding> {
  const { entered, maxHoldMs } = options;
  return waitForGrant(context, subject, options, ({ granted, ...handlers }) => {
    const member = new LineMember(context.session, membership, {
      ...handlers,
      granted: (grant) => granted(new Holding(context, subject, member, grant, maxHoldMs)),
    });
    return {
      start: () => (entered === undefined ? member.start() : member.adopt(entered)),
      leave: () => member.leave(),
    };
  });
}

type WaitHandlers<H extends Holding> = {
  waits(): void;
  granted(holding: H): void;
  ended(end: LineEnd): void;
};

/**
 * Lets a member join, and waits until it is granted what it joined for.
 *
 * @throws as `waitForHold`
 */
export function waitForGrant<H extends Holding>(
  context: RecipeContext,
  subject: HoldSubject,
  patience: Patience,
  create: (handlers: WaitHandlers<H>) => { start(): void; leave(): Promise<void> },
): Promise<H> {
  const { session, metrics } = context;
  const { recipe, name } = subject;
  const late = (timeoutMs: number) => {
    const message = `The ${recipe} '${name}' could not be acquired within ${timeoutMs} ms`;
    return new ConclaveError('NOT_ACQUIRED', message);
  };
  return waitPatiently(context, subject, patience, late, async (enough) => {
    if (session.state === 'lost') throw sessionLost(session);
    let stopListening = () => {};
    const granted = new Promise<H>((resolve, reject) => {
      let holding: H | undefined;
      const member = create({
        waits: () => metrics.contended({ recipe, name, kind: 'wait' }),
        granted: (granted) => {
          holding = granted;
          resolve(granted);
        },
        ended: (end) => {
          if (holding) holding.ended(end);
          else reject(waitError(session, subject, end));
        },
      });
      stopListening = onAbort(enough, () => {
        // Once granted, the handle alone decides.
        if (holding) return;
        reject(enough?.reason);
        // Runs in the background; what cannot be confirmed goes to the session's reaper.
        member.leave().catch(() => undefined);
      });
      member.start();
    });
    return granted.finally(stopListening);
  });
}

/**
 * Makes the handle of a place that was created and granted in one exchange, or (`how` 'resume') that
 * was taken over in one.
 */
export function adoptHold(
  context: RecipeContext,
  subject: HoldSubject,
  membership: Membership,
  view: LineView,
  maxHoldMs: number | undefined,
  how: 'adopt' | 'resume' = 'adopt',
): Holding {
  let holding: Holding | undefined;
  let end: LineEnd | undefined;
  const member = new LineMember(context.session, membership, {
    granted: (granted) => {
      holding = new Holding(context, subject, member, granted, maxHoldMs);
    },
    ended: (ended) => {
      end = ended;
      holding?.ended(ended);
    },
  });
  member[how](view);
  if (holding === undefined) {
    throw waitError(context.session, subject, end ?? { kind: 'session-lost' });
  }
  return holding;
}

function waitError(session: Session, subject: HoldSubject, end: LineEnd): unknown {
  switch (end.kind) {
    case 'failed':
      return end.error;
    case 'session-lost':
    case 'left':
      return sessionLost(session);
    case 'place-lost': {
      const { recipe, name, lostCode } = subject;
      const message = `The place in the line of ${recipe} '${name}' was removed while waiting`;
      return new ConclaveError(lostCode, message);
    }
  }
}

/** What ended the session; made up when its timers have not noticed yet. */
export const sessionLost = (session: Session): ConclaveError =>
  session.signal.aborted
    ? (session.signal.reason as ConclaveError)
    : new ConclaveError('SESSION_LOST', `The deadline of session ${session.id} has passed`);

const released = ({ recipe, name }: HoldSubject) =>
  new ConclaveError('RELEASED', `The ${recipe} '${name}' was released by this handle before`);
