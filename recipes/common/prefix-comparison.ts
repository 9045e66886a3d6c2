/**
 * Finds out what a watch cannot tell: that it misses something. The prefix is listed now and then, and
 * at once when the connection breaks, and compared with the copy. Of a store that was restored from a
 * snapshot the listing shows a revision before the copy's, or other writes at the same revisions.
 */
import type { Client } from '../../sdk/client.ts';
import type { Cancel } from '../../sdk/clock.ts';
import type { ListResult } from '../../sdk/kv.ts';
import type { PrefixCopy } from './prefix-copy.ts';
import { pause } from './repeat.ts';

/** How long the watch may take to bring what a comparison showed. */
const graceMs = 1_000;
/** Of a larger copy only the keys are compared: listing all its values at each reconnection costs too much. */
const valuesBytesMax = 1_048_576;

export type Difference = 'rewound' | 'missed';

type Compared = {
  readonly client: Client;
  readonly prefix: string;
  readonly copy: PrefixCopy;
  /** How often, in milliseconds; undefined: only when there is a reason to. */
  readonly recheckMs: number | undefined;
  /** Whether there is a copy that stands; there is nothing to compare otherwise. */
  readonly stands: () => boolean;
  /** Whether the copy waits for somebody, so that what the watch has brought may not be in it yet. */
  readonly waits: () => boolean;
  /** Asks until the store answers. */
  readonly ask: (list: () => Promise<ListResult>) => Promise<ListResult>;
  readonly onAnswer: () => void;
  readonly onTrouble: (error: unknown) => void;
  /** Why the copy cannot be relied on. */
  readonly onDifference: (difference: Difference) => void;
};

export class PrefixComparison {
  readonly #compared: Compared;
  readonly #signal: AbortSignal;
  readonly #stopListening: () => void;
  #cancelTimer: Cancel = () => undefined;
  #isComparing = false;
  /** Something happened while a comparison was under way. */
  #again = false;

  /** @param signal ends it */
  constructor(compared: Compared, signal: AbortSignal) {
    this.#compared = compared;
    this.#signal = signal;
    const connection = compared.client.events$.subscribe((event) => {
      if (event.type === 'disconnected') this.compareSoon();
    });
    this.#stopListening = () => connection.unsubscribe();
    this.#later();
  }

  /** There is reason to doubt the copy. Values are compared too: the store may be another than it was. */
  compareSoon(): void {
    if (this.#isComparing) this.#again = true;
    else void this.#compare(true);
  }

  /** No timer fires after this. */
  stop(): void {
    this.#stopListening();
    this.#cancelTimer();
  }

  #later(): void {
    const { client, recheckMs } = this.#compared;
    this.#cancelTimer();
    if (this.#signal.aborted || recheckMs === undefined) return;
    const delayMs = recheckMs * (0.75 + 0.5 * client.random());
    this.#cancelTimer = client.clock.setTimer(delayMs, () => void this.#compare(false));
  }

  async #compare(isDoubted: boolean): Promise<void> {
    this.#isComparing = true;
    this.#cancelTimer();
    let withValues = isDoubted;
    do {
      this.#again = false;
      await this.#compareOnce(withValues);
      withValues = true;
    } while (this.#again && !this.#signal.aborted);
    this.#isComparing = false;
    this.#later();
  }

  async #compareOnce(withValues: boolean): Promise<void> {
    const { copy, stands, onDifference, onTrouble } = this.#compared;
    if (this.#signal.aborted || !stands()) return;
    copy.beginComparison();
    try {
      const difference = await this.#difference(withValues && copy.bytes <= valuesBytesMax);
      // A listing that is on its way by now shows all.
      if (difference !== undefined && !this.#signal.aborted && stands()) onDifference(difference);
    } catch (error) {
      if (!this.#signal.aborted) onTrouble(error);
    } finally {
      copy.endComparison();
    }
  }

  async #difference(withValues: boolean): Promise<Difference | undefined> {
    const { client, prefix, copy, ask, onAnswer, waits } = this.#compared;
    const signal = this.#signal;
    const before = copy.revision;
    const listed = await ask(() =>
      client.kv.list({ prefix }, withValues ? { signal } : { keysOnly: true, signal }),
    );
    // Also after a reset in the meantime: revisions that a store has told it must not take back.
    if (listed.revision < before) return 'rewound';
    if (copy.contradicts(listed, withValues)) return 'rewound';
    const differences = copy.compare(listed);
    onAnswer();
    if (differences.listed.size === 0) return undefined;
    await pause(client.clock, graceMs, signal);
    return copy.hasMissed(differences) && !waits() ? 'missed' : undefined;
  }
}
