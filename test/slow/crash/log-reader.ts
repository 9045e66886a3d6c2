/** Reads the store's own record of what happened: through watches, live and of the past. */
import { setTimeout as delay } from 'node:timers/promises';
import type {
  DeepPartial,
  WatchRequest,
  WatchResponse,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import type { Event } from '../../../server/wire/mvccpb/kv.ts';
import type { Change, RevisionOfLog } from '../../support/checkers/history.ts';
import type { ModelEntry } from '../../support/checkers/replay.ts';
import { waitFor, within } from '../../support/wait.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';

const everything = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };
const historyTimeoutMs = 30_000;
/** Between attempts while the server is down. */
const reconnectMs = 20;

async function* watchFrom(
  client: WireClient,
  startRevision: bigint,
  signal: AbortSignal,
): AsyncGenerator<WatchResponse, void> {
  async function* requests(): AsyncIterable<DeepPartial<WatchRequest>> {
    yield { requestUnion: { $case: 'createRequest', value: { ...everything, startRevision } } };
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
  yield* client.watch.watch(requests(), { signal });
}

function changeOf(event: Event): Change {
  const { kv } = event;
  const isPut = event.type === 0;
  return {
    type: isPut ? 'put' : 'delete',
    key: kv?.key.toString() ?? '',
    value: isPut ? (kv?.value.toString() ?? '') : '',
    createRevision: isPut ? (kv?.createRevision ?? 0n) : 0n,
    version: isPut ? (kv?.version ?? 0n) : 0n,
    lease: isPut ? (kv?.lease ?? 0n) : 0n,
  };
}

/** Appends the events to the log, as revisions in the order of their arrival. */
function append(log: RevisionOfLog[], events: readonly Event[]): void {
  let open: { revision: bigint; changes: Change[] } | undefined;
  for (const event of events) {
    const revision = event.kv?.modRevision ?? 0n;
    if (open?.revision !== revision) {
      open = { revision, changes: [] };
      log.push(open);
    }
    open.changes.push(changeOf(event));
  }
}

/** The log from `first` to `last`, both included. */
export async function readHistory(
  client: WireClient,
  first: bigint,
  last: bigint,
): Promise<RevisionOfLog[]> {
  const log: RevisionOfLog[] = [];
  if (first > last) return log;
  const abort = new AbortController();
  const read = async (): Promise<void> => {
    for await (const response of watchFrom(client, first, abort.signal)) {
      if (response.canceled)
        throw new Error(
          `history from ${first} was refused: ${response.cancelReason} compacted ${response.compactRevision}`,
        );
      append(log, response.events);
      if ((log.at(-1)?.revision ?? 0n) >= last) return;
    }
  };
  try {
    await within(read(), historyTimeoutMs, `reading history ${first} to ${last}`);
  } catch (error) {
    throw new Error(`history ended at ${log.at(-1)?.revision}`, { cause: error });
  } finally {
    abort.abort();
  }
  return log;
}

export async function readListing(
  client: WireClient,
): Promise<{ revision: bigint; entries: Map<string, ModelEntry> }> {
  const { header, kvs } = await client.kv.range(everything);
  const entries = kvs.map(
    (kv) =>
      [
        kv.key.toString(),
        {
          value: kv.value.toString(),
          createRevision: kv.createRevision,
          modRevision: kv.modRevision,
          version: kv.version,
          lease: kv.lease,
        },
      ] as const,
  );
  return { revision: header?.revision ?? 0n, entries: new Map(entries) };
}

/**
 * A watcher of everything that lives through crashes: it comes back at the last revision it was
 * given plus one, as the SDK does, and keeps all it was ever given.
 */
export class Follower {
  readonly #endpoint: string;
  #disconnect: () => void = () => undefined;
  #closed = false;
  #delivered: RevisionOfLog[] = [];
  #last: bigint;
  /** What a server said that it must not say. */
  readonly violations: string[] = [];
  reconnections = 0;

  constructor(endpoint: string, after: bigint) {
    this.#endpoint = endpoint;
    this.#last = after;
    void this.#follow();
  }

  async #follow(): Promise<void> {
    while (!this.#closed) {
      const client = connectWire(this.#endpoint);
      const connection = new AbortController();
      this.#disconnect = () => connection.abort();
      try {
        for await (const response of watchFrom(client, this.#last + 1n, connection.signal)) {
          if (response.canceled)
            this.violations.push(
              `watch: cancelled at ${this.#last + 1n}: ${response.cancelReason} ${response.compactRevision}`,
            );
          append(this.#delivered, response.events);
          this.#last = this.#delivered.at(-1)?.revision ?? this.#last;
        }
      } catch {
        // The server is down; the next attempt waits for it.
      } finally {
        connection.abort();
        client.close();
      }
      this.reconnections += 1;
      await delay(reconnectMs);
    }
  }

  async reached(revision: bigint): Promise<void> {
    await waitFor(
      `the watcher, at ${this.#last}, to reach ${revision}`,
      () => (this.#last >= revision ? true : undefined),
      { timeoutMs: 15_000 },
    );
  }

  /** What was delivered since the last call. */
  take(): RevisionOfLog[] {
    const taken = this.#delivered;
    this.#delivered = [];
    return taken;
  }

  close(): void {
    this.#closed = true;
    this.#disconnect();
  }
}
