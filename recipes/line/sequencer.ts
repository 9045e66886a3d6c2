/**
 * Sequencers: a hold described so that another server can check it against the store before it acts
 * on a request. After Chubby (Burrows, OSDI 2006, section 2.4).
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Kv } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';

export type Sequencer = { readonly key: string; readonly createRevision: bigint };

export const formatSequencer = ({ key, createRevision }: Sequencer): string =>
  `${key}@${createRevision}`;

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseSequencer(sequencer: string): Sequencer {
  const at = typeof sequencer === 'string' ? sequencer.lastIndexOf('@') : -1;
  const revision = at > 0 ? sequencer.slice(at + 1) : '';
  if (!/^[1-9]\d{0,18}$/.test(revision)) {
    throw invalidArgument(
      'sequencer',
      sequencer,
      "a text such as 'conclave/lock/orders/4a-7f@112'",
    );
  }
  return { key: sequencer.slice(0, at), createRevision: BigInt(revision) };
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
  const { key, createRevision } = parseSequencer(sequencer);
  const found = await kv.get(key, options);
  return found?.createRevision === createRevision;
}
