/**
 * The program's side of the keep-alive thread: one thread for all sessions of a client that ask for
 * it, started with the first and ended with the last.
 *
 * While the event loop turns, a timer says so in memory that both share; the thread renews only what
 * has such a sign of life that is recent enough.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads';
import type { Cancel, Clock } from './clock.ts';
import { aborted, ConclaveError, throwIfAborted } from './errors.ts';
import { LeaseCells, PulseCell } from './keep-alive-cells.ts';
import type {
  ThreadConnection,
  ThreadData,
  ThreadNews,
  ThreadOrder,
} from './keep-alive-protocol.ts';

/** Far below the shortest `maxBlock`. */
const pulseEveryMs = 100;

export type ThreadLease = {
  readonly lease: bigint;
  readonly ttlMs: number;
  readonly ageMs: number;
  readonly lockDelayMs: number;
  readonly maxBlockMs: number;
  /** The cells have changed, or (with an error) an attempt failed. */
  readonly onNews: (failure: ConclaveError | undefined) => void;
  /** The thread ended although nobody asked it to: nobody renews the lease now. */
  readonly onDeath: (error: ConclaveError) => void;
};

type Taken = {
  /** Undefined until it has one. */
  lease: ThreadLease | undefined;
  /** Why the thread ended that it was taken in. */
  death: ConclaveError | undefined;
};

/** What one session has of the thread. */
export type Seat = {
  readonly cells: LeaseCells;
  /** Gives a lease into the care of the thread; one that has ended since says so at once. */
  keep(lease: ThreadLease): void;
  /** Lets it go; the thread ends with the last. Idempotent. */
  leave(): void;
};

type Running = {
  readonly worker: Worker;
  /** Resolves when it takes orders; rejects with why it cannot. */
  readonly ready: Promise<void>;
};

export class KeepAliveThread {
  readonly #connection: ThreadConnection;
  readonly #clock: Clock;
  /** By number. */
  readonly #seats = new Map<number, Taken>();
  /** Somebody waits for their first news: meanwhile the thread holds the process. */
  readonly #awaited = new Set<number>();
  #running: Running | undefined;
  #cancelPulse: Cancel = () => {};
  #ended: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(connection: ThreadConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  /**
   * Resolves once the thread runs: that takes a while, which should not come off the life of a lease.
   *
   * @throws ConclaveError INTERNAL when it cannot be started, ABORTED
   */
  async seat(signal?: AbortSignal): Promise<Seat> {
    throwIfAborted(signal);
    this.#count += 1;
    const number = this.#count;
    const taken: Taken = { lease: undefined, death: undefined };
    this.#seats.set(number, taken);
    this.#awaited.add(number);
    this.#running ??= this.#start();
    this.#running.worker.ref();
    try {
      await untilAborted(this.#running.ready, signal);
    } catch (error) {
      this.#leave(number);
      throw error;
    }
    const cells = new LeaseCells();
    return {
      cells,
      keep: (lease) => {
        if (taken.death !== undefined) {
          lease.onDeath(taken.death);
          return;
        }
        taken.lease = lease;
        const { onNews, onDeath, ...terms } = lease;
        this.#order({ type: 'keep', number, ...terms, cells: cells.memory });
      },
      leave: () => this.#leave(number),
    };
  }

  /** Resolves when a thread that was ended is gone. */
  ended(): Promise<unknown> {
    return this.#ended;
  }

  #leave(number: number): void {
    if (!this.#seats.delete(number)) return;
    this.#answered(number);
    if (this.#seats.size === 0) this.#end();
    else this.#order({ type: 'leave', number });
  }

  /** The thread holds the process no longer; its sessions do, each with a timer of its own. */
  #answered(number: number): void {
    if (this.#awaited.delete(number) && this.#awaited.size === 0) this.#running?.worker.unref();
  }

  #order(order: ThreadOrder): void {
    this.#running?.worker.postMessage(order);
  }

  #start(): Running {
    const pulse = new PulseCell();
    const workerData: ThreadData = { connection: this.#connection, pulse: pulse.memory };
    const worker = startWorker({ workerData, name: 'conclave-keep-alive' });
    const ready = new Promise<void>((resolve, reject) => {
      const died = (cause: Error) => {
        const message = `The keep-alive thread ended: ${cause.message}`;
        const error = new ConclaveError('INTERNAL', message, { cause });
        reject(error);
        this.#died(worker, error);
      };
      worker.on('message', (news: ThreadNews | 'ready') => {
        if (news === 'ready') resolve();
        else this.#heard(news);
      });
      worker.on('error', died);
      worker.on('exit', (code) => died(new Error(`it exited with code ${code}`)));
    });
    ready.catch(() => undefined);
    const beat = () => {
      pulse.beat();
      this.#cancelPulse = this.#clock.setTimer(pulseEveryMs, beat);
    };
    beat();
    return { worker, ready };
  }

  #heard({ number, failure }: ThreadNews): void {
    this.#answered(number);
    const error = failure && new ConclaveError(failure.code, failure.message);
    this.#seats.get(number)?.lease?.onNews(error);
  }

  #died(worker: Worker, error: ConclaveError): void {
    if (this.#running?.worker !== worker) return;
    this.#end();
    const all = [...this.#seats.values()];
    this.#seats.clear();
    this.#awaited.clear();
    for (const taken of all) taken.death = error;
    for (const { lease } of all) lease?.onDeath(error);
  }

  #end(): void {
    const running = this.#running;
    this.#running = undefined;
    this.#cancelPulse();
    if (running) this.#ended = running.worker.terminate();
  }
}

const untilAborted = async (work: Promise<void>, signal: AbortSignal | undefined) => {
  if (signal === undefined) return work;
  let stopListening: Cancel = () => {};
  const end = new Promise<never>((_, reject) => {
    const onAbort = () => reject(aborted(signal));
    signal.addEventListener('abort', onAbort);
    stopListening = () => signal.removeEventListener('abort', onAbort);
  });
  try {
    await Promise.race([work, end]);
  } finally {
    stopListening();
  }
};

/** The sources are run as they are while this package is worked on. */
const isSource = import.meta.url.endsWith('.ts');
const file = new URL(`./keep-alive-worker.${isSource ? 'ts' : 'js'}`, import.meta.url);

/** A thread that has to read TypeScript gets the loader first that this package is worked on with. */
const startWorker = (options: WorkerOptions): Worker => {
  if (!isSource || 'typescript' in process.features) return new Worker(file, options);
  const loader = import.meta.resolve('tsx/esm/api');
  const start = `import('${loader}').then(({ register }) => { register(); return import('${file}'); })`;
  return new Worker(start, { ...options, eval: true });
};
