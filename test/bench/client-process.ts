/** A client in a process of its own: started with a system and its endpoints, told what to do. */
import type { BenchClient } from './adapters/client.ts';
import { rows } from './rows.ts';
import { benchSystem } from './systems.ts';
import type { AnyTask, Worker } from './task.ts';

export type Request = { readonly task: string; readonly argument: unknown };
export type Reply =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly error: string };

const [systemName = '', endpoints = ''] = process.argv.slice(2);
const { connect } = benchSystem(systemName);
const tasks = new Map<string, AnyTask>(
  rows.flatMap((row) => row.tasks ?? []).map((task) => [task.name, task]),
);
const client: BenchClient = await connect(endpoints);
let taskNumber = 0;

async function answer({ task: name, argument }: Request): Promise<Reply> {
  taskNumber += 1;
  const worker: Worker = {
    client,
    connect: () => connect(endpoints),
    space: `bench/${process.pid}/${taskNumber}/`,
  };
  try {
    const task = tasks.get(name);
    if (task === undefined) throw new Error(`unknown task ${name}`);
    return { ok: true, result: await task.run(worker, argument as never) };
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { ok: false, error: text };
  }
}

process.on('message', (request: Request) => {
  void answer(request).then((reply) => process.send?.(reply));
});
process.on('disconnect', () => process.exit(0));
process.send?.('ready');
