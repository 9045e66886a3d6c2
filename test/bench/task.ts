/** Work that a row has a client process do. */
import type { BenchClient } from './adapters/client.ts';

/** The client process as a task sees it. */
export type Worker = {
  /** The connection that all tasks of this process share. */
  readonly client: BenchClient;
  /** Another one; closed with the process. */
  connect(): Promise<BenchClient>;
  /** A prefix for the keys of this task alone: no task starts from what another left behind. */
  readonly space: string;
};

export type Task<Argument, Result> = {
  /** Unique among all rows. */
  readonly name: string;
  readonly run: (worker: Worker, argument: Argument) => Promise<Result>;
};

/** A task whose types are known to its row only. */
export type AnyTask = Task<never, unknown>;

/** A method of the client that the row cannot do without. */
export function required<Method>(method: Method | undefined, name: string): Method {
  if (method === undefined) throw new Error(`this client has no ${name}`);
  return method;
}
