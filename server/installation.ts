/**
 * The replacement of a member's whole state by a later one that another member sent.
 *
 * While it runs nothing is applied, compacted or read. Whoever reads in slices asks `generation`
 * between two of them: what was read before and after a replacement does not belong together.
 */
import { assert } from './assert.ts';
import type { Log, LogPosition, State } from './ports.ts';
import type { Entry, HardState } from './raft/message.ts';
import type { ReceivedSnapshot } from './storage/transfer.ts';

type Batch = { readonly hardState?: HardState; readonly entries: readonly Entry[] };

export class Installation {
  readonly #log: Log;
  readonly #state: State;
  /** Here and verified; Raft decides whether it is needed. */
  #offered: ReceivedSnapshot | undefined;
  #generation = 0;
  /** The next one may begin before the facts of the last one are loaded: then it goes on. */
  #running = 0;
  #resolveEnded = (): void => {};
  #ended: Promise<void> = Promise.resolve();

  constructor({ log, state }: { readonly log: Log; readonly state: State }) {
    this.#log = log;
    this.#state = state;
  }

  get isRunning(): boolean {
    return this.#running > 0;
  }

  /** Differs after every replacement. */
  get generation(): number {
    return this.#generation;
  }

  /** Resolves when none runs any more; another may run by the time that one hears of it. */
  get ended(): Promise<void> {
    return this.#ended;
  }

  /** Takes the place of one that was not needed. */
  offer(received: ReceivedSnapshot): void {
    this.#discard();
    this.#offered = received;
  }

  /**
   * Resolves when state and log are the new ones, durably; `end` follows when the facts in memory are.
   * A rejection leaves the member without a state that fits its log: it must stop.
   */
  async run(position: LogPosition, { hardState, entries }: Batch): Promise<void> {
    const received = this.#offered;
    this.#offered = undefined;
    assert(
      received !== undefined &&
        received.index === position.index &&
        received.term === position.term,
      'Raft installs the snapshot that it was told of last',
    );
    assert(hardState !== undefined, 'a snapshot comes with the term in which it was accepted');
    this.#generation += 1;
    this.#running += 1;
    if (this.#running === 1) {
      this.#ended = new Promise((resolve) => {
        this.#resolveEnded = resolve;
      });
    }
    await this.#state.install(received);
    await this.#log.reset({ index: position.index, term: position.term }, hardState);
    if (entries.length > 0) await this.#log.append({ entries });
  }

  /** Once for each `run`. */
  end(): void {
    assert(this.#running > 0, 'only an installation that runs ends');
    this.#running -= 1;
    if (this.#running === 0) this.#resolveEnded();
  }

  #discard(): void {
    // What stays of it makes way for the next transfer.
    this.#offered?.discard().catch(() => undefined);
    this.#offered = undefined;
  }
}
