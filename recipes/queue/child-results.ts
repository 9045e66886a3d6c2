/** How the children of a job ended, for the job that waited for them. */
import type { Client } from '../../sdk/client.ts';
import { type Codec, decodeWith, json } from '../../sdk/codec.ts';
import type { CallOptions } from '../../sdk/options.ts';
import type { QueueKeys } from '../names.ts';
import type { ChildOutcome } from './child-ends.ts';
import { idOfEntry } from './job-places.ts';

export type ChildResult<R = unknown> = {
  readonly id: string;
} /** `result`: what its handler returned; undefined when it returned nothing, or nothing to keep. */ & (
  | { readonly status: 'done'; readonly result: R | undefined }
  | { readonly status: 'dead'; readonly reason: string }
  | { readonly status: 'cancelled' }
);

/** In the order in which the children were pushed. @throws ConclaveError CODEC */
export async function childResults<R>(
  client: Client,
  keys: QueueKeys,
  id: string,
  codec: Codec<R> = json<R>(),
  options: CallOptions = {},
): Promise<readonly ChildResult<R>[]> {
  const { kvs } = await client.kv.list({ prefix: `${keys.child}${id}/` }, options);
  return kvs.map(({ key, value }): ChildResult<R> => {
    const child = { id: idOfEntry(key) };
    const outcome: ChildOutcome = JSON.parse(Buffer.from(value).toString('utf8'));
    if (outcome.status !== 'done') return { ...child, ...outcome };
    const { result } = outcome;
    if (result === undefined) return { ...child, status: 'done', result: undefined };
    const decoded = decodeWith(codec, Buffer.from(result, 'base64'), key);
    return { ...child, status: 'done', result: decoded };
  });
}
