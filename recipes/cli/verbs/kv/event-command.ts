import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { JsonObject } from '../../output/json.ts';
import { note } from '../../stderr.ts';

/** Variables cannot hold a zero byte. */
const variable = (value: unknown): string => String(value ?? '').replaceAll('\0', '');

/**
 * Runs the shell command for one event and waits for it: events are handled in order, one at a time.
 * A command that fails is reported and does not end the watch.
 */
export async function runForEvent(command: string, event: JsonObject): Promise<void> {
  const key = variable(event['key']);
  const value = variable(event['value']);
  const type = variable(event['type']);
  const revision = variable(event['revision']);
  const child = spawn('/bin/sh', ['-c', command], {
    stdio: ['pipe', 'inherit', 'inherit'],
    env: {
      ...process.env,
      CONCLAVE_EVENT: type,
      CONCLAVE_KEY: key,
      CONCLAVE_VALUE: value,
      CONCLAVE_REVISION: revision,
      ETCD_WATCH_EVENT_TYPE: type.toUpperCase(),
      ETCD_WATCH_KEY: JSON.stringify(key),
      ETCD_WATCH_VALUE: JSON.stringify(value),
      ETCD_WATCH_REVISION: revision,
    },
  });
  // A command that does not read its input closes it early; that is its right.
  child.stdin.on('error', () => undefined);
  child.stdin.end(`${JSON.stringify(event)}\n`);
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  if (code !== 0) note(`the command for revision ${revision} ended with ${signal ?? code}`);
}
