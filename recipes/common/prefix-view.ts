/**
 * What stands under one prefix, as a loop over its states: one for each revision. A slow loop makes the
 * watch wait.
 */
import type { Client } from '../../sdk/client.ts';
import type { ConclaveError } from '../../sdk/errors.ts';
import type { PrefixEntries } from './prefix-copy.ts';
import { type FollowNotice, PrefixFollower } from './prefix-follower.ts';
import { onAbort } from './signals.ts';

export type PrefixView = {
  /** The copy is exact as of this revision. */
  readonly revision: bigint;
  /** The same object each time: read it before asking for the next view. */
  readonly entries: PrefixEntries;
  /** The store was found restored: revisions of earlier views say nothing about those of this one. */
  readonly rewound?: boolean;
};

export type ViewOptions = {
  readonly signal: AbortSignal;
  /**
   * How often the keys are compared with the store's, whatever the watch says; undefined: only when the
   * connection or the watch breaks.
   * @default 60_000
   */
  readonly recheckMs?: number | undefined;
  /** Hears when a call has failed, and when the store answers again. */
  readonly onStale?: (stale: boolean) => void;
  /** What the caller has listed already; it is kept current instead of a listing of its own. */
  readonly start?: PrefixView;
};

/** Views show what many are interested in and few act on: lists beside the watch are kept rare. */
const defaultRecheckMs = 60_000;

/**
 * Yields the state, then each later one. Outlives an unreachable store, and notices one that was
 * restored; ends quietly when the signal aborts or the client closes.
 *
 * @throws ConclaveError for what a retry cannot change, such as PERMISSION_DENIED
 */
export async function* viewPrefix(
  client: Client,
  prefix: string,
  options: ViewOptions,
): AsyncGenerator<PrefixView> {
  const { signal, start, onStale } = options;
  const recheckMs = 'recheckMs' in options ? options.recheckMs : defaultRecheckMs;
  if (start) yield start;
  if (signal.aborted) return;
  let shown: PrefixView | undefined;
  let isOver = false;
  let failure: ConclaveError | undefined;
  /** Lets the keeper go on, and the loop. */
  let release: () => void = () => undefined;
  let wake: () => void = () => undefined;
  const hear = (notice: FollowNotice): Promise<void> | undefined => {
    if (notice.type === 'refused') {
      failure = notice.error;
      return undefined;
    }
    if (notice.type !== 'changed') onStale?.(notice.type === 'stale');
    if (notice.type === 'stale' || notice.type === 'fresh' || isOver) return undefined;
    const rewound = notice.type === 'reset' && notice.reason === 'rewound';
    shown = { revision: notice.revision, entries: keeper.copy, ...(rewound ? { rewound } : {}) };
    wake();
    return new Promise((resolve) => {
      release = resolve;
    });
  };
  const keeper = new PrefixFollower(
    client,
    {
      prefix,
      endsRefused: true,
      isPatient: true,
      ...(recheckMs === undefined ? {} : { recheckMs }),
      ...(start === undefined
        ? {}
        : { start: { revision: start.revision, kvs: start.entries.values() } }),
    },
    hear,
  );
  const end = () => {
    isOver = true;
    release();
    wake();
    return keeper.close();
  };
  const stopListening = onAbort(signal, () => void end());
  void keeper.ended.then(end);
  try {
    for (;;) {
      while (shown === undefined && !isOver) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      if (shown === undefined || signal.aborted) break;
      yield shown;
      shown = undefined;
      release();
    }
    if (failure && !signal.aborted) throw failure;
  } finally {
    stopListening();
    await end();
  }
}
