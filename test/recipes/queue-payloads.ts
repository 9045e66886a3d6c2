/** What is in a queue, as its keys tell. */
import { type QueueKeys, queueKeys } from '../../recipes/names.ts';
import { encodeState, readJobState } from '../../recipes/queue/job-record.ts';
import type { Kv } from '../../sdk/kv.ts';
import { payloadsLeft } from '../lin/recipes-queue.ts';

/** The payloads of the jobs that are left: those with a record, then light ones; each in order. */
export async function payloadsOf(kv: Kv, name: string): Promise<readonly unknown[]> {
  const keys: QueueKeys = queueKeys(name);
  const { kvs } = await kv.list({ prefix: keys.root });
  const entries = kvs.map(
    ({ key, value }) => [key, { value: Buffer.from(value).toString('utf8') }] as const,
  );
  return payloadsLeft(keys, entries).map((payload) => JSON.parse(payload) as unknown);
}

/** Makes the payload of a light job that is ready one that no JSON codec can read. */
export async function spoilPayload(kv: Kv, name: string, id: string): Promise<void> {
  const key = queueKeys(name).ready + id;
  const entry = await kv.get(key);
  if (entry === null) throw new Error(`${key} is not there`);
  await kv.put(key, encodeState({ ...readJobState(entry), data: 'not JSON' }));
}
