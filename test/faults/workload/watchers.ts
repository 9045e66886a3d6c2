/** Watchers that live through faults: each comes back where it was, and all it was told is kept. */
import { setTimeout as delay } from 'node:timers/promises';
import type {
  DeepPartial,
  WatchRequest,
  WatchResponse as WireResponse,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import type { Event } from '../../../server/wire/mvccpb/kv.ts';
import type { Commit } from '../../lin/store.ts';
import type { WatchEvent, WatchResponse, WatchRun } from '../../lin/watch.ts';
import { waitFor, within } from '../../support/wait.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';
import { entryOf, everything } from './store-calls.ts';

const reconnectMs = 50;
const historyTimeoutMs = 60_000;
const reachTimeoutMs = 15_000;

async function* watchFrom(
  client: WireClient,
  request: DeepPartial<Extract<WatchRequest['requestUnion'], { $case: 'createRequest' }>['value']>,
  signal: AbortSignal,
): AsyncGenerator<WireResponse, void> {
  async function* requests(): AsyncIterable<DeepPartial<WatchRequest>> {
    yield { requestUnion: { $case: 'createRequest', value: request } };
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }
  yield* client.watch.watch(requests(), { signal });
}

function eventOf({ type, kv, prevKv }: Event): WatchEvent {
  const isPut = type === 0;
  return {
    type: isPut ? 'put' : 'delete',
    key: kv?.key.toString() ?? '',
    entry: isPut && kv !== undefined ? entryOf(kv) : undefined,
    revision: Number(kv?.modRevision ?? 0n),
    previous: prevKv === undefined ? undefined : entryOf(prevKv),
  };
}

function responseOf(response: WireResponse): WatchResponse {
  const revision = Number(response.header?.revision ?? 0n);
  if (response.canceled)
    return {
      kind: 'cancelled',
      compactRevision: Number(response.compactRevision),
      reason: response.cancelReason,
    };
  if (response.created) return { kind: 'created', revision };
  if (response.events.length === 0) return { kind: 'progress', revision };
  const events = response.events.map(eventOf);
  return { kind: 'events', revision, events, isFragment: response.fragment };
}

export type WatcherOptions = {
  readonly name: string;
  /** host:port */
  readonly endpoint: string;
  /** Undefined: every key. */
  readonly prefix?: string;
  readonly wants?: 'puts' | 'deletes';
};

export class Watcher {
  readonly #options: WatcherOptions;
  readonly #runs: { run: WatchRun; responses: WatchResponse[] }[] = [];
  #next = 2;
  #isClosed = false;
  #disconnect: () => void = () => undefined;

  constructor(options: WatcherOptions) {
    this.#options = options;
    void this.#follow();
  }

  get runs(): readonly WatchRun[] {
    return this.#runs.map(({ run }) => run);
  }

  async #follow(): Promise<void> {
    const { name, endpoint, prefix, wants } = this.#options;
    while (!this.#isClosed) {
      const responses: WatchResponse[] = [];
      const matches = (key: string) => prefix === undefined || key.startsWith(prefix);
      const run: WatchRun = {
        name: `${name} from ${this.#next}`,
        request: { startRevision: this.#next, matches, wants, withPrevious: true },
        responses,
      };
      this.#runs.push({ run, responses });
      const connection = new AbortController();
      this.#disconnect = () => connection.abort();
      const client = connectWire(endpoint);
      try {
        const filters = wants === undefined ? [] : [wants === 'puts' ? (1 as const) : (0 as const)];
        const span = prefix === undefined ? everything : spanOf(prefix);
        const request = { ...span, startRevision: BigInt(this.#next), filters };
        const all = { ...request, prevKv: true, progressNotify: true };
        for await (const wire of watchFrom(client, all, connection.signal)) {
          const response = responseOf(wire);
          responses.push(response);
          this.#next = Math.max(this.#next, deliveredUpTo(response) + 1);
        }
      } catch {
        // The member is gone or cut off; the next attempt waits for it.
      } finally {
        connection.abort();
        client.close();
      }
      await delay(reconnectMs);
    }
  }

  /** Resolves when everything up to the revision was delivered, or it takes too long to be right. */
  async settle(log: readonly Commit[]): Promise<void> {
    const { prefix, wants } = this.#options;
    const last = log.findLast(({ changes }) =>
      changes.some(
        ({ key, type }) =>
          (prefix === undefined || key.startsWith(prefix)) &&
          (wants === undefined || (wants === 'puts') === (type === 'put')),
      ),
    );
    const revision = last?.revision ?? 0;
    await waitFor(
      `watcher ${this.#options.name}, next at ${this.#next}, to reach ${revision}`,
      () => (this.#next > revision ? true : undefined),
      { timeoutMs: reachTimeoutMs, intervalMs: 20 },
    );
  }

  close(): void {
    this.#isClosed = true;
    this.#disconnect();
  }
}

/** A header may be ahead of the events that are still to come; only progress is a promise. */
function deliveredUpTo(response: WatchResponse): number {
  if (response.kind === 'progress') return response.revision;
  return response.kind === 'events' ? (response.events.at(-1)?.revision ?? 0) : 0;
}

function spanOf(prefix: string): { key: Buffer; rangeEnd: Buffer } {
  const rangeEnd = Buffer.from(prefix);
  rangeEnd[rangeEnd.length - 1] = (rangeEnd.at(-1) ?? 0) + 1;
  return { key: Buffer.from(prefix), rangeEnd };
}

/** The log of one member, both revisions included. */
export async function readLog(client: WireClient, first: number, last: number): Promise<Commit[]> {
  const log: { revision: number; changes: WatchEvent[] }[] = [];
  if (first > last) return log;
  const abort = new AbortController();
  const reading = async (): Promise<void> => {
    const request = { ...everything, startRevision: BigInt(first) };
    for await (const response of watchFrom(client, request, abort.signal)) {
      if (response.canceled)
        throw new Error(
          `history from ${first} was refused: ${response.cancelReason} ${response.compactRevision}`,
        );
      for (const { revision, ...change } of response.events.map(eventOf)) {
        if (log.at(-1)?.revision !== revision) log.push({ revision, changes: [] });
        log.at(-1)?.changes.push({ revision, ...change });
      }
      if ((log.at(-1)?.revision ?? 0) >= last) return;
    }
  };
  try {
    await within(reading(), historyTimeoutMs, `reading history ${first} to ${last}`);
  } finally {
    abort.abort();
  }
  return log.filter(({ revision }) => revision <= last);
}
