/** The other end of a client process. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { extname } from 'node:path';
import { within } from '../support/wait.ts';
import type { Reply, Request } from './client-process.ts';
import type { Task } from './task.ts';

const connectTimeoutMs = 30_000;
const taskTimeoutMs = 120_000;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class ClientHandle {
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<never>;

  private constructor(name: string, child: ChildProcess) {
    this.#name = name;
    this.#child = child;
    this.#ended = once(child, 'exit').then(([code, signal]) => {
      throw new Error(`the client process of ${name} ended with ${code ?? signal}`);
    });
    this.#ended.catch(() => undefined);
  }

  static async start(systemName: string, endpoints: string): Promise<ClientHandle> {
    const program = new URL(`./client-process${extname(import.meta.url)}`, import.meta.url);
    const child = fork(program, [systemName, endpoints]);
    running.add(child);
    child.once('exit', () => running.delete(child));
    const handle = new ClientHandle(systemName, child);
    await handle.#next(connectTimeoutMs, 'to connect');
    return handle;
  }

  /** One at a time. Rejects with what the task threw. */
  async call<Argument, Result>(
    { name }: Task<Argument, Result>,
    argument: Argument,
  ): Promise<Result> {
    const request: Request = { task: name, argument };
    this.#child.send(request);
    const reply = (await this.#next(taskTimeoutMs, name)) as Reply;
    if (!reply.ok) throw new Error(reply.error);
    return reply.result as Result;
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }

  async #next(timeoutMs: number, what: string): Promise<unknown> {
    const message = Promise.race([once(this.#child, 'message'), this.#ended]);
    const [received] = await within(message, timeoutMs, `${what} on ${this.#name}`);
    return received;
  }
}
