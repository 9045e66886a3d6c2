import { hostname } from 'node:os';

const LONGEST_COMMAND = 200;

/** What others see beside a lock or leadership that this process holds or waits for. */
export const sessionMeta = (command: readonly string[]): Readonly<Record<string, string>> => ({
  host: hostname(),
  pid: String(process.pid),
  command: command.join(' ').slice(0, LONGEST_COMMAND),
});
