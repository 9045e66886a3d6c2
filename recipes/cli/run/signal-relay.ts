/**
 * Signals to the wrapper, on their way to the command. Without a command (while waiting for the
 * lock, between two terms) those that end a program end the waiting instead.
 */
import { constants } from 'node:os';
import type { ProcessTree } from './process-tree.ts';

const ending = ['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM'] as const;
const other = ['SIGUSR1', 'SIGUSR2', 'SIGWINCH', 'SIGCONT'] as const;
type Relayed = (typeof ending)[number] | (typeof other)[number];

const isEnding = (signal: Relayed): boolean => ending.some((name) => name === signal);

/** These a terminal sends to the whole foreground group by itself: twice would be once too often. */
const sentByTerminal: ReadonlySet<Relayed> = new Set(['SIGINT', 'SIGQUIT', 'SIGWINCH']);

export class SignalRelay implements Disposable {
  readonly #trees = new Set<ProcessTree>();
  readonly #stop = new AbortController();
  readonly #sharesTerminal: boolean;
  #signalNumber: number | undefined;
  #onFirst: ((signal: NodeJS.Signals) => void) | undefined;

  /** @param sharesTerminal whether the command is in the terminal's foreground group beside us */
  constructor(sharesTerminal: boolean) {
    this.#sharesTerminal = sharesTerminal;
    for (const signal of [...ending, ...other]) process.on(signal, this.#onSignal);
  }

  /** Aborts at the first signal that asks to end, whether or not a command runs. */
  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  /** The number of the signal that asked to end. */
  get signalNumber(): number | undefined {
    return this.#signalNumber;
  }

  /** Until detached, the command gets every signal. */
  attach(tree: ProcessTree): void {
    this.#trees.add(tree);
  }

  detach(tree: ProcessTree): void {
    this.#trees.delete(tree);
  }

  /**
   * The first request to end goes to the listener and not to the commands, which may finish; only a
   * second one is relayed.
   */
  finishFirst(onFirst: (signal: NodeJS.Signals) => void): void {
    this.#onFirst = onFirst;
  }

  [Symbol.dispose](): void {
    for (const signal of [...ending, ...other]) process.removeListener(signal, this.#onSignal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    const signal = name as Relayed;
    if (isEnding(signal) && this.#signalNumber === undefined) {
      this.#signalNumber = constants.signals[signal];
      this.#stop.abort();
      if (this.#onFirst !== undefined) {
        this.#onFirst(name);
        return;
      }
    }
    if (this.#sharesTerminal && sentByTerminal.has(signal)) return;
    for (const tree of this.#trees) tree.signal(signal);
  };
}
