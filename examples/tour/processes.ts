/** Child processes of the tour: each is a real operating-system process that can really be killed. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export type Child<Message> = {
  readonly pid: number;
  readonly exited: Promise<void>;
  onMessage(listener: (message: Message) => void): void;
  send(message: unknown): void;
  /** Unlike a stop, a kill gives the process no chance to release or resign anything. */
  kill(): Promise<void>;
  /** Asks it to finish what it does and leave. */
  stop(): Promise<void>;
};

const running = new Set<ChildProcess>();
let interrupted = false;

/** Ctrl-C reaches the children as well as the tour: what they leave undone is nobody's finding. */
export class Interrupted extends Error {
  override name = 'Interrupted';
}

export function interrupt(): void {
  interrupted = true;
  killAll();
}

/** Between the steps of an act. */
export function throwIfInterrupted(): void {
  if (interrupted) throw new Interrupted('interrupted');
}

/** Starts `examples/tour/<file>` with its arguments in `TOUR_*` variables. */
export function startChild<Message>(
  file: string,
  variables: Readonly<Record<string, string>>,
): Child<Message> {
  const url = new URL(`${file}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
  const child = fork(fileURLToPath(url), {
    env: { ...process.env, ...variables },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  running.add(child);
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => {
      running.delete(child);
      resolve();
    });
  });
  const exited = gone.then(throwIfInterrupted);
  exited.catch(() => undefined);
  return {
    pid: child.pid ?? 0,
    exited,
    onMessage: (listener) => child.on('message', (message) => listener(message as Message)),
    send: (message) => {
      if (child.connected) child.send(message as object);
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    async stop() {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

/** Nothing that the tour starts outlives it. */
export function killAll(): void {
  for (const child of running) child.kill('SIGKILL');
}

/** In a child: tells the tour something. Resolves when it has left this process. */
export function report(message: object): Promise<void> {
  return new Promise((resolve, reject) => {
    if (process.send === undefined) {
      reject(new Error('this file is started by the tour, not by hand'));
      return;
    }
    process.send(message, (error: Error | null) => (error === null ? resolve() : reject(error)));
  });
}

export function requiredVariable(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`the tour sets ${name}; it is missing here`);
  return value;
}
