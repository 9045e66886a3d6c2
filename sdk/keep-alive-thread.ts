/**
 * The program's side of the keep-alive thread: one thread for all sessions of a client that ask for
 * it, started with the first and ended with the last.
 *
 * While the event loop turns, a timer says so in memory that both share; the thread renews only what
 * has such a sign of life that is recent enough.
 */
import { Worker, type WorkerOptions } from 'node:worker_threads';
import type { Cancel, Clock } from './clock.ts';
import { ConclaveError } from './errors.ts';
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

/** What one session has of the thread. */
export type Seat = {
  readonly cells: LeaseCells;
  /** Gives a lease into the care of the thread. */
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
  /** By number; undefined until they have a lease. */
  readonly #seats = new Map<number, ThreadLease | undefined>();
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
   * @throws ConclaveError INTERNAL when it cannot be started
   */
  async seat(): Promise<Seat> {
    this.#count += 1;
    const number = this.#count;
    this.#seats.set(number, undefined);
    this.#awaited.add(number);
    this.#running ??= this.#start();
    this.#running.worker.ref();
    await this.#running.ready;
    const cells = new LeaseCells();
    return {
      cells,
      keep: (lease) => {
        this.#seats.set(number, lease);
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

  /** A session alone is no reason for a program to go on. */
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
    this.#seats.get(number)?.onNews(error);
  }

  #died(worker: Worker, error: ConclaveError): void {
    if (this.#running?.worker !== worker) return;
    this.#end();
    const leases = [...this.#seats.values()];
    this.#seats.clear();
    this.#awaited.clear();
    for (const lease of leases) lease?.onDeath(error);
  }

  #end(): void {
    const running = this.#running;
    this.#running = undefined;
    this.#cancelPulse();
    if (running) this.#ended = running.worker.terminate();
  }
}

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
