import type { ProcessTree } from './process-tree.ts';

/** The right to run: a lock, a term, a claim. */
export type Tenure = {
  /** Aborts when the right is gone. */
  readonly signal: AbortSignal;
  /** Until when the right is certain, by `nowMs`. Moves with every renewal. */
  validUntilMs(): number;
  /** Monotonic milliseconds. */
  nowMs(): number;
};

export type OnLost = 'term' | 'kill' | 'notify';

export type LossPolicy = {
  readonly onLost: OnLost;
  /** How long before the end of the right the command is asked to stop. */
  readonly graceMs: number;
};

/** Timers beyond this overflow and fire at once; a wake-up that finds nothing to do is harmless. */
const LONGEST_SLEEP_MS = 3_600_000;

/**
 * Watches the right while the command runs, and stops the command in time.
 *
 * Invariant (`term`, `kill`): no process of the tree runs after the right has ended, as long as this
 * process itself is scheduled. A renewal that fails leaves `graceMs` to stop in order: TERM at
 * validUntil - grace, KILL at validUntil. A right that is already gone (revoked by hand, this
 * process frozen past the end) leaves no grace: another may hold it now, so KILL at once.
 *
 * Once TERM was sent the loss is final, even if a renewal still succeeds: the command is ending.
 */
export class Supervisor {
  readonly #tree: ProcessTree;
  readonly #tenure: Tenure;
  readonly #policy: LossPolicy;
  readonly #onLoss: (gone: boolean) => void;
  #timer: NodeJS.Timeout | undefined;
  #stopAtMs: number | undefined;
  #killed = false;

  /** @param onLoss called once, at the moment of the loss; true: the right is already gone. */
  constructor(
    tree: ProcessTree,
    tenure: Tenure,
    policy: LossPolicy,
    onLoss: (gone: boolean) => void,
  ) {
    this.#tree = tree;
    this.#tenure = tenure;
    this.#policy = policy;
    this.#onLoss = onLoss;
    tenure.signal.addEventListener('abort', this.#check);
    this.#check();
  }

  get lost(): boolean {
    return this.#stopAtMs !== undefined;
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#tenure.signal.removeEventListener('abort', this.#check);
  }

  readonly #check = (): void => {
    clearTimeout(this.#timer);
    const nowMs = this.#tenure.nowMs();
    const gone = this.#tenure.signal.aborted;
    const endMs = gone ? nowMs : this.#tenure.validUntilMs();
    const stopMs = this.#policy.onLost === 'term' ? endMs - this.#policy.graceMs : endMs;

    if (this.#stopAtMs === undefined) {
      if (nowMs < stopMs) {
        this.#sleepUntil(stopMs, nowMs);
        return;
      }
      this.#stopAtMs = endMs;
      this.#onLoss(gone || nowMs >= endMs);
    }
    this.#stopAtMs = Math.min(this.#stopAtMs, endMs);
    this.#stop(nowMs, this.#stopAtMs);
  };

  #stop(nowMs: number, killAtMs: number): void {
    if (this.#killed) return;
    if (this.#policy.onLost === 'notify') {
      this.#killed = true;
      this.#tree.signal('SIGUSR1');
      return;
    }
    if (nowMs >= killAtMs) {
      this.#killed = true;
      this.#tree.signal('SIGKILL');
      return;
    }
    this.#tree.signal('SIGTERM');
    // A stopped process would not see the TERM.
    this.#tree.signal('SIGCONT');
    this.#sleepUntil(killAtMs, nowMs);
  }

  #sleepUntil(atMs: number, nowMs: number): void {
    this.#timer = setTimeout(this.#check, Math.min(Math.max(0, atMs - nowMs), LONGEST_SLEEP_MS));
  }
}
