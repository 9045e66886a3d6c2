/**
 * The program's side of the keep-alive thread: one thread for all sessions of a client that ask for
 * it, started with the first and ended with the last.
 *
 * While the event loop turns, a timer says so in memory that both share; the thread renews only what
 * has such a sign of life that is recent enough.
 */
import { Worker } from 'node:worker_threads';
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

/** A lease in the care of the thread. */
export type KeptLease = {
  readonly cells: LeaseCells;
  /** Lets it go. Idempotent. */
  leave(): void;
};

export class KeepAliveThread {
  readonly #connection: ThreadConnection;
  readonly #clock: Clock;
  readonly #leases = new Map<number, ThreadLease>();
  /** Somebody waits for their first news: meanwhile the thread holds the process. */
  readonly #starting = new Set<number>();
  #worker: Worker | undefined;
  #cancelPulse: Cancel = () => {};
  #ended: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(connection: ThreadConnection, clock: Clock) {
    this.#connection = connection;
    this.#clock = clock;
  }

  keep(lease: ThreadLease): KeptLease {
    this.#count += 1;
    const number = this.#count;
    const cells = new LeaseCells();
    this.#leases.set(number, lease);
    this.#starting.add(number);
    const { ttlMs, ageMs, lockDelayMs, maxBlockMs } = lease;
    this.#order({
      type: 'keep',
      number,
      lease: lease.lease,
      ttlMs,
      ageMs,
      lockDelayMs,
      maxBlockMs,
      cells: cells.memory,
    });
    this.#worker?.ref();
    return { cells, leave: () => this.#leave(number) };
  }

  /** Resolves when a thread that was ended is gone. */
  ended(): Promise<unknown> {
    return this.#ended;
  }

  #leave(number: number): void {
    if (!this.#leases.delete(number)) return;
    this.#started(number);
    if (this.#leases.size === 0) this.#end();
    else this.#order({ type: 'leave', number });
  }

  /** A session alone is no reason for a program to go on. */
  #started(number: number): void {
    if (this.#starting.delete(number) && this.#starting.size === 0) this.#worker?.unref();
  }

  #order(order: ThreadOrder): void {
    this.#worker ??= this.#start();
    this.#worker.postMessage(order);
  }

  #start(): Worker {
    const pulse = new PulseCell();
    const workerData: ThreadData = { connection: this.#connection, pulse: pulse.memory };
    const worker = new Worker(file, { workerData, name: 'conclave-keep-alive', ...startOptions });
    worker.on('message', ({ number, failure }: ThreadNews) => {
      this.#started(number);
      const error = failure && new ConclaveError(failure.code, failure.message);
      this.#leases.get(number)?.onNews(error);
    });
    worker.on('error', (error) => this.#died(worker, error));
    worker.on('exit', (code) => this.#died(worker, new Error(`it exited with code ${code}`)));
    const beat = () => {
      pulse.beat();
      this.#cancelPulse = this.#clock.setTimer(pulseEveryMs, beat);
    };
    beat();
    return worker;
  }

  #died(worker: Worker, cause: Error): void {
    if (this.#worker !== worker) return;
    this.#end();
    const message = `The keep-alive thread ended: ${cause.message}`;
    const error = new ConclaveError('INTERNAL', message, { cause });
    const leases = [...this.#leases.values()];
    this.#leases.clear();
    this.#starting.clear();
    for (const lease of leases) lease.onDeath(error);
  }

  #end(): void {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#cancelPulse();
    if (worker) this.#ended = worker.terminate();
  }
}

/** The sources are run as they are while this package is worked on. */
const isSource = import.meta.url.endsWith('.ts');
const file = new URL(`./keep-alive-worker.${isSource ? 'ts' : 'js'}`, import.meta.url);

/** A thread that has to read TypeScript needs the loader that the rest of the program has. */
const startOptions =
  isSource && !('typescript' in process.features)
    ? { execArgv: [...process.execArgv, '--import', 'tsx'] }
    : {};
