/**
 * Several jobs, claimed in one exchange and handled by one call. Each has its own claim, signal and
 * outcome: a batch is only how they are handed over.
 */
import type { Handler, Job, JobContext } from './job.ts';

/** A job of a batch. Its signal aborts when this job is lost or is to stop, whatever the others do. */
export type BatchJob<T> = Job<T> & JobContext;

/**
 * Handles the jobs of a batch.
 *
 * @returns nothing, or one result for each job in their order; an Error in its place says that this
 *   job has failed. A batch handler that throws has failed all of them.
 */
export type BatchHandler<T, R> = (
  jobs: readonly BatchJob<T>[],
) => Promise<BatchResults<R>> | Promise<void> | BatchResults<R>;

export type BatchResults<R> = readonly (R | Error)[] | undefined;

type Arrival<T, R> = {
  readonly job: BatchJob<T>;
  readonly resolve: (result: R | undefined) => void;
  readonly reject: (error: unknown) => void;
};

/** Brings the jobs of one batch together: the handler is called when all have come or turned away. */
export class Batch<T, R> {
  readonly #handler: BatchHandler<T, R>;
  readonly #arrived: Arrival<T, R>[] = [];
  #awaited: number;

  constructor(handler: BatchHandler<T, R>, size: number) {
    this.#handler = handler;
    this.#awaited = size;
  }

  /** The handler of one of the jobs. */
  readonly handle: Handler<T, R | undefined> = (job, context) =>
    new Promise((resolve, reject) => {
      this.#arrived.push({ job: { ...job, ...context }, resolve, reject });
      this.#oneLess();
    });

  /** One of the jobs turned out not to need handling. */
  withoutOne(): void {
    this.#oneLess();
  }

  #oneLess(): void {
    this.#awaited -= 1;
    if (this.#awaited === 0 && this.#arrived.length > 0) void this.#run();
  }

  async #run(): Promise<void> {
    try {
      const results = (await this.#handler(this.#arrived.map(({ job }) => job))) ?? undefined;
      this.#arrived.forEach(({ resolve, reject }, index) => {
        const result = results?.[index];
        if (result instanceof Error) reject(result);
        else resolve(result);
      });
    } catch (error) {
      for (const { reject } of this.#arrived) reject(error);
    }
  }
}
