/** What the store's history tells about a claim whose end was not answered. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { Kv } from '../../sdk/kv.ts';
import type { QueueKeys } from '../names.ts';

/**
 * Whether a claim that is gone ended together with its job. Only its owner can do that: the fence of
 * anyone else names another create revision, unless the job was ordered to stop.
 *
 * @throws ConclaveError OUTCOME_UNKNOWN when history that could tell was compacted
 */
export async function endedWithoutJob(
  kv: Kv,
  keys: QueueKeys,
  { id, token }: { readonly id: string; readonly token: bigint },
  signal: AbortSignal,
): Promise<boolean> {
  await using watch = kv.watch(keys.claim + id, { from: token + 1n, puts: false, signal });
  let reason = 'the client was closed';
  for await (const notice of watch) {
    if (notice.type === 'reset') {
      reason = 'history was compacted';
      break;
    }
    if (notice.type !== 'events') continue;
    // Of a light job, which has no record: given back, it is ready; what goes elsewhere gets its record.
    for (const key of [keys.job + id, keys.ready + id]) {
      if ((await kv.get(key, { revision: notice.revision, signal })) !== null) return false;
    }
    return true;
  }
  const message = `Whether job ${id} was acknowledged cannot be told: ${reason}`;
  throw new ConclaveError('OUTCOME_UNKNOWN', message);
}
