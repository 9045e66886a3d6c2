/** Rows that are one operation in a closed loop. */
import { closedLoop, type LoopMeasurement, type Times } from '../measure.ts';
import type { Row } from '../row.ts';
import type { Task, Worker } from '../task.ts';

export type LoopArgument = Times & { readonly concurrency: number };

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
    run: async (worker, { concurrency, ...times }) =>
      await closedLoop(concurrency, times, await prepare(worker, concurrency)),
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
    measure: (stage, settings) => stage.loop(task, settings),
  };
}
