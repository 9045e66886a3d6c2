/**
 * The guard where the system has no `sh`: the same protocol as `groupScript`, spoken by a Node
 * process that leads the group and runs the command as its child.
 */
import { spawn } from 'node:child_process';
import { writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants } from 'node:os';

const [command, ...commandArguments] = process.argv.slice(2);
if (command === undefined) throw new Error('usage: guard-process COMMAND [ARGUMENT...]');

const killGroup = (): void => {
  process.kill(0, 'SIGKILL');
};

const finish = (code: number): void => {
  try {
    writeSync(3, `${code}\n`);
  } finally {
    killGroup();
  }
};

for (const signal of [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGTERM',
  'SIGVTALRM',
  'SIGPROF',
] as const) {
  process.on(signal, () => undefined);
}

const wrapper = new Socket({ fd: 3, readable: true, writable: false });
wrapper.on('end', killGroup);
wrapper.on('error', killGroup);
wrapper.resume();

const child = spawn(command, commandArguments, { stdio: 'inherit' });
child.on('error', (error: NodeJS.ErrnoException) => {
  process.stderr.write(`conclave: cannot run '${command}': ${error.message}\n`);
  finish(error.code === 'ENOENT' ? 127 : 126);
});
child.on('exit', (code, signal) => {
  finish(signal === null ? (code ?? 0) : 128 + (constants.signals[signal] ?? 0));
});
