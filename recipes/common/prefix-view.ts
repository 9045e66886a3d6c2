/**
 * A live copy of everything under one prefix: a listing at one revision, then every later revision
 * whole and in order. What compaction hides arrives as a fresh listing.
 */

import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from './repeat.ts';

export type PrefixView = {
  /** The copy is exact as of this revision. */
  readonly revision: bigint;
  /** By key. The same map each time: read it before asking for the next view. */
  readonly entries: ReadonlyMap<string, KeyValue>;
};

export type ViewOptions = {
  readonly signal: AbortSignal;
  /** Hears of failures that are being retried, and (undefined) that the store answers again. */
  readonly onTrouble?: (error: unknown) => void;
  /** What the caller has listed already; it is kept current instead of a listing of its own. */
  readonly start?: PrefixView;
};

/**
 * Yields the state, then each later one. Outlives an unreachable store; ends quietly when the signal
 * aborts or the client closes.
 *
 * @throws ConclaveError for what a retry cannot change, such as PERMISSION_DENIED
 */
export async function* viewPrefix(
  client: Client,
  prefix: string,
  { signal, onTrouble, start }: ViewOptions,
): AsyncGenerator<PrefixView> {
  const list = async (): Promise<PrefixView> => {
    const read = () =>
      client.kv.list({ prefix }, { signal }).catch((error: unknown) => {
        onTrouble?.(error);
        throw error;
      });
    const { kvs, revision } = await untilAnswered(client, read, signal);
    onTrouble?.(undefined);
    return { revision, entries: new Map(kvs.map((kv) => [kv.key, kv])) };
  };
  let listed = start;
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      const { revision, entries: before } = listed ?? (await list());
      listed = undefined;
      attempt = 0;
      const entries = new Map(before);
      yield { revision, entries };
      const watch = client.kv.watch({ prefix }, { from: revision + 1n, signal });
      for await (const notice of watch) {
        if (notice.type === 'progress') continue;
        if (notice.type === 'reset') {
          entries.clear();
          for (const kv of notice.kvs) entries.set(kv.key, kv);
        } else {
          for (const { type, kv } of notice.events) {
            if (type === 'put') entries.set(kv.key, kv);
            else entries.delete(kv.key);
          }
        }
        yield { revision: notice.revision, entries };
      }
    } catch (error) {
      if (signal.aborted || isConclaveError(error, 'CLOSED')) return;
      if (!mayRepeat(error)) throw error;
      onTrouble?.(error);
    }
    // The watch ended: list again.
    await pause(client.clock, fullJitterMs(attempt, client.random), signal).catch(() => undefined);
  }
}
