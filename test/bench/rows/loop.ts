/** Rows that are one operation in a closed loop. */
import { closedLoop, type LoopMeasurement } from '../measure.ts';
import type { Row } from '../row.ts';
import type { Task, Worker } from '../task.ts';

export type LoopArgument = { readonly concurrency: number; readonly durationMs: number };

export const valueBytes = 256;
export const value = 'v'.repeat(valueBytes);

/** @param prepare makes what the callers repeat, after it wrote what they need */
export function loopTask(
  name: string,
  prepare: (
    worker: Worker,
    concurrency: number,
  ) => Promise<(caller: number) => Promise<unknown>> | ((caller: number) => Promise<unknown>),
): Task<LoopArgument, LoopMeasurement> {
  return {
    name,
    run: async (worker, { concurrency, durationMs }) =>
      await closedLoop(concurrency, durationMs, await prepare(worker, concurrency)),
  };
}

export function loopRow(
  row: Omit<Row, 'measure' | 'tasks' | 'isAdjustable'>,
  task: Task<LoopArgument, LoopMeasurement>,
): Row {
  return {
    ...row,
    isAdjustable: true,
    tasks: [task],
    measure: (stage, { concurrency, durationMs }) => stage.loop(task, { concurrency, durationMs }),
  };
}
