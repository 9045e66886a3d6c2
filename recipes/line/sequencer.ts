/**
 * Sequencers: a hold described so that another server can check it against the store before it acts
 * on a request. After Chubby (Burrows, OSDI 2006, section 2.4).
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Kv } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';

/** A hold is a key's life, or where its key passes from holder to holder, the life of its value. */
export type Sequencer = { readonly key: string } & (
  | { readonly createRevision: bigint }
  | { readonly modRevision: bigint }
);

export const formatSequencer = (sequencer: Sequencer): string =>
  'createRevision' in sequencer
    ? `${sequencer.key}@${sequencer.createRevision}`
    : `${sequencer.key}@mod:${sequencer.modRevision}`;

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseSequencer(sequencer: string): Sequencer {
  const at = typeof sequencer === 'string' ? sequencer.lastIndexOf('@') : -1;
  const [, mod, revision] =
    (at > 0 && /^(mod:)?([1-9]\d{0,18})$/.exec(sequencer.slice(at + 1))) || [];
  if (revision === undefined) {
    throw invalidArgument(
      'sequencer',
      sequencer,
      "a text such as 'conclave/lock/orders/4a-7f@112'",
    );
  }
  const key = sequencer.slice(0, at);
  return mod === undefined
    ? { key, createRevision: BigInt(revision) }
    : { key, modRevision: BigInt(revision) };
}

/**
 * Whether the hold still stands: one linearizable read. The answer is as of that read; where that is
 * not enough, guard the write by the token instead.
 */
export async function verifySequencer(
  kv: Kv,
  sequencer: string,
  options?: CallOptions,
): Promise<boolean> {
  const parsed = parseSequencer(sequencer);
  const found = await kv.get(parsed.key, options);
  return 'createRevision' in parsed
    ? found?.createRevision === parsed.createRevision
    : found?.modRevision === parsed.modRevision;
}
