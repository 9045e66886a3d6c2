/**
 * A worker whose life is a subscription: subscribing starts it, unsubscribing ends it. Each job is
 * handled by an Observable: its last value is the job's result, its error the job's failure, and it is
 * unsubscribed from when the job's signal aborts.
 */

import { from, Observable, type ObservableInput } from 'rxjs';
import { parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkFunction, checkOptions } from '../common/option-checks.ts';
import { onAbort } from '../common/signals.ts';
import type { Job, JobContext, WorkerEvent } from './job.ts';
import { type CloseOptions, knownWorker, Worker, type WorkerOptions } from './worker.ts';

export type ProcessOptions<T> = WorkerOptions<T> & {
  /** How long jobs may go on after unsubscribing before they are given back. @default '0s' */
  readonly grace?: CloseOptions['grace'];
};

export type Processor<T, R> = (job: Job<T>, context: JobContext) => ObservableInput<R>;

/**
 * What the worker does, while anybody listens; each subscriber has a worker of its own. Completes when
 * the session is closed.
 *
 * @throws to the subscriber: ConclaveError INVALID_ARGUMENT
 */
export const processor = <T, R>(
  context: RecipeContext,
  name: string,
  project: Processor<T, R>,
  options: ProcessOptions<T> = {},
): Observable<WorkerEvent<T, R | undefined>> =>
  new Observable((subscriber) => {
    checkFunction(project, 'project', 'a function of the job that returns an Observable');
    checkOptions<ProcessOptions<T>>(options, { ...knownWorker, grace: true });
    const { grace = 0, ...workerOptions } = options;
    parseDuration(grace, 'grace');
    const worker = new Worker<T, R | undefined>(
      context,
      name,
      (job, jobContext) => lastValue(() => project(job, jobContext), jobContext.signal),
      workerOptions,
    );
    subscriber.add(worker.events$.subscribe(subscriber));
    return () => void worker.close({ grace });
  });

/** The last value, or undefined when there is none. Rejects with the signal's reason when it aborts. */
function lastValue<R>(open: () => ObservableInput<R>, signal: AbortSignal): Promise<R | undefined> {
  return new Promise((resolve, reject) => {
    let last: R | undefined;
    const subscription = from(open()).subscribe({
      next: (value) => {
        last = value;
      },
      error: reject,
      complete: () => resolve(last),
    });
    const stopListening = onAbort(signal, () => {
      subscription.unsubscribe();
      reject(signal.reason);
    });
    subscription.add(stopListening);
  });
}
