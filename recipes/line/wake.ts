/** Waiting until a look at the line is worth an exchange. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { pause } from '../common/repeat.ts';
import { noLongerWanted } from '../common/signals.ts';
import type { Place } from './line.ts';
import type { LineView, Membership } from './line-membership.ts';

export type Waiting = {
  readonly client: Client;
  /** The place the policy named. */
  readonly place: Place;
  /** What the member saw; watches start at the revision after it. */
  readonly view: LineView;
  /** How long to rest after a watch failed, so that a store that refuses watches is not flooded. */
  readonly restMs: number;
  readonly signal: AbortSignal;
};

/**
 * Resolves when the line may have changed in the member's favour, when a watch failed, or when the
 * signal aborts. Only a look decides what comes next, so waking too often costs but never harms.
 */
export type Wake = (waiting: Waiting) => Promise<void>;

/** When the place is gone. */
export const whenGone: Wake = async ({ client, place, view, restMs, signal }) => {
  await untilGone(client, place, { from: view.revision + 1n, restMs, signal });
};

/** When the place is gone or written to: for members that change their mode in place. */
export const whenChanged: Wake = async ({ client, place, view, restMs, signal }) => {
  const changed = new AbortController();
  const stop = () => changed.abort(noLongerWanted);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const onPut = (kv: KeyValue) => kv.modRevision !== place.modRevision && stop();
    const options = { from: view.revision + 1n, restMs, signal: changed.signal, onPut };
    await untilGone(client, place, options);
  } finally {
    signal.removeEventListener('abort', stop);
  }
};

export const wakeOf = ({ wake = 'gone' }: Membership): Wake => {
  if (typeof wake === 'function') return wake;
  return wake === 'gone' ? whenGone : whenChanged;
};

type FollowOptions = {
  readonly from: bigint;
  readonly restMs: number;
  readonly signal: AbortSignal;
  /** Hears of writes to the key, and of the key itself after a compaction. */
  readonly onPut?: ((kv: KeyValue) => void) | undefined;
};

/** Follows one key until it is deleted or replaced (true), or the watch ends otherwise (false). */
export async function untilGone(
  client: Client,
  { key, createRevision }: Pick<Place, 'key' | 'createRevision'>,
  { from, restMs, signal, onPut }: FollowOptions,
): Promise<boolean> {
  try {
    const puts = onPut !== undefined;
    for await (const notice of client.kv.watch(key, { from, puts, signal })) {
      if (notice.type === 'events') {
        for (const { type, kv } of notice.events) {
          if (type === 'delete') return true;
          onPut?.(kv);
        }
      }
      // Compaction passed the watch: the listing says whether it is still the same key.
      if (notice.type === 'reset') {
        const [kv] = notice.kvs;
        if (kv?.createRevision !== createRevision) return true;
        onPut?.(kv);
      }
    }
  } catch {
    // The slow re-read covers what a broken watch would have reported.
  }
  await pause(client.clock, restMs, signal).catch(() => undefined);
  return false;
}
