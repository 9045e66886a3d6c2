/** A client in a process of its own: started with a system and an endpoint, told what to measure. */
import type { Measurement } from './measure.ts';
import { type RowName, rows } from './rows.ts';
import { benchSystem } from './systems.ts';

export type Task = {
  readonly row: RowName;
  readonly concurrency: number;
  readonly durationMs: number;
};
export type TaskResult =
  | { readonly ok: true; readonly measurement: Measurement }
  | { readonly ok: false; readonly error: string };

const [systemName = '', endpoint = ''] = process.argv.slice(2);
const client = await benchSystem(systemName).connect(endpoint);
let taskNumber = 0;

async function measure(task: Task): Promise<TaskResult> {
  taskNumber += 1;
  // Every task has keys of its own: no row starts from what another left behind.
  const space = `bench/${process.pid}/${taskNumber}/`;
  try {
    const measurement = await rows[task.row](client, task.concurrency, task.durationMs, space);
    return { ok: true, measurement };
  } catch (error) {
    return {
      ok: false,
      error: error instanceof Error ? (error.stack ?? error.message) : String(error),
    };
  }
}

process.on('message', (task: Task) => {
  void measure(task).then((result) => process.send?.(result));
});
process.on('disconnect', () => process.exit(0));
process.send?.({ ready: true });
