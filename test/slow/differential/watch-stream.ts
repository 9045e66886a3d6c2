/**
 * One watch stream of one server: sends requests, records what comes back in a comparable form, and
 * checks the guarantees that hold on every stream by itself.
 */
import type {
  DeepPartial,
  WatchRequest,
  WatchResponse,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import type { SystemName } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import type { WireClient } from '../../support/wire-client.ts';
import { type Plain, watchBody } from './normalise.ts';

export const barrierKey = Buffer.from('zz-barrier');
const barrierWatchId = 1_000_000n;
const settleTimeoutMs = 5_000;

export class WatchStream {
  /** Answers to creates and cancels, progress and cancellations by the server, in order. */
  readonly control: Plain[] = [];
  /** Events of each watcher in order. */
  readonly events = new Map<string, Plain[]>();
  /** Broken guarantees, in words. */
  readonly violations: string[] = [];
  /** Watchers that wait for a future revision; while there is one, progress may stay unanswered. */
  readonly #pending: DeepPartial<WatchRequest>[] = [];
  readonly #abort = new AbortController();
  readonly #leaseName: (id: bigint) => string;
  readonly #confirmsTwice: boolean;
  readonly #live = new Set<bigint>();
  readonly #lastRevision = new Map<bigint, bigint>();
  readonly #fences = new Set<number>();
  #wake: () => void = () => undefined;
  #created = 0;
  #sentCreates = 0;
  #barrierRevision = 0n;
  #lastActivityMs = performance.now();
  #fragmentOf: bigint | undefined;
  #ended: string | undefined;

  constructor(client: WireClient, system: SystemName, leaseName: (id: bigint) => string) {
    this.#leaseName = leaseName;
    this.#confirmsTwice = system === 'etcd';
    void this.#read(client);
  }

  /** Opens the stream with the barrier's watcher on it. */
  static async open(
    client: WireClient,
    system: SystemName,
    leaseName: (id: bigint) => string,
  ): Promise<WatchStream> {
    const stream = new WatchStream(client, system, leaseName);
    await stream.fence();
    return stream;
  }

  get idleMs(): number {
    return performance.now() - this.#lastActivityMs;
  }

  get ended(): string | undefined {
    return this.#ended;
  }

  send(request: DeepPartial<WatchRequest>): void {
    if (request.requestUnion?.$case === 'createRequest') this.#sentCreates += 1;
    this.#pending.push(request);
    this.#wake();
  }

  /**
   * Resolves once the server has handled everything sent before. The barrier's watcher is created
   * again and again; every create has exactly one answer, so its answer marks the place.
   */
  async fence(): Promise<void> {
    this.#fences.add(this.#sentCreates);
    this.send({
      requestUnion: {
        $case: 'createRequest',
        value: { key: barrierKey, watchId: barrierWatchId },
      },
    });
    await waitFor('the answers of a watch stream', () => this.#settledCreates(), {
      timeoutMs: settleTimeoutMs,
      intervalMs: 1,
    });
  }

  #settledCreates(): true | undefined {
    if (this.#ended !== undefined) throw new Error(`the watch stream ended: ${this.#ended}`);
    return this.#created >= this.#sentCreates ? true : undefined;
  }

  /** Resolves once the event of the barrier at `revision` has come, and so all events before it. */
  async reached(revision: bigint): Promise<void> {
    await waitFor(
      `the event of revision ${revision}`,
      () => (this.#barrierRevision >= revision || this.#ended !== undefined ? true : undefined),
      { timeoutMs: settleTimeoutMs, intervalMs: 1 },
    );
  }

  close(): void {
    this.#abort.abort();
    this.#wake();
  }

  async *#requests(): AsyncIterable<DeepPartial<WatchRequest>> {
    while (!this.#abort.signal.aborted) {
      const next = this.#pending.shift();
      if (next !== undefined) yield next;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
    }
  }

  async #read(client: WireClient): Promise<void> {
    try {
      const responses = client.watch.watch(this.#requests(), { signal: this.#abort.signal });
      for await (const response of responses) this.#take(response);
      this.#ended = 'closed by the server';
    } catch (error) {
      if (!this.#abort.signal.aborted) this.#ended = String(error);
    }
  }

  #take(response: WatchResponse): void {
    this.#lastActivityMs = performance.now();
    if (response.created) {
      const isFence = this.#fences.delete(this.#created);
      this.#created += 1;
      if (!response.canceled) this.#live.add(response.watchId);
      if (isFence) return;
    }
    if (response.events.length > 0) this.#takeEvents(response);
    else this.#takeControl(response);
  }

  #takeControl(response: WatchResponse): void {
    if (response.canceled && !response.created && !this.#live.delete(response.watchId)) {
      // etcd confirms a cancellation even of a watcher that it has cancelled itself before.
      if (this.#confirmsTwice) return;
      this.violations.push(`cancellation of watcher ${response.watchId}, which is not live`);
    }
    this.control.push(watchBody(response, this.#leaseName));
  }

  #takeEvents(response: WatchResponse): void {
    const id = response.watchId;
    if (!this.#live.has(id)) this.violations.push(`events for watcher ${id}, which is not live`);
    if (this.#fragmentOf !== undefined && this.#fragmentOf !== id)
      this.violations.push(`fragments of watcher ${this.#fragmentOf} are interrupted by ${id}`);
    const firstRevision = response.events[0]?.kv?.modRevision ?? 0n;
    const last = this.#lastRevision.get(id) ?? 0n;
    if (this.#fragmentOf === undefined && firstRevision <= last)
      this.violations.push(`watcher ${id}: revision ${firstRevision} after ${last}`);
    this.#fragmentOf = response.fragment ? id : undefined;
    let previous = firstRevision;
    for (const event of response.events) {
      const revision = event.kv?.modRevision ?? 0n;
      if (revision < previous)
        this.violations.push(`watcher ${id}: events out of order, ${revision} after ${previous}`);
      previous = revision;
    }
    this.#lastRevision.set(id, previous);
    if ((response.header?.revision ?? 0n) < previous)
      this.violations.push(
        `watcher ${id}: header revision ${response.header?.revision} below its event ${previous}`,
      );
    if (id === barrierWatchId) {
      this.#barrierRevision = previous;
      return;
    }
    const log = this.events.get(`${id}`) ?? [];
    for (const event of response.events) {
      // A watcher of the barrier's key may get that event just after the barrier's own watcher.
      if (event.kv?.key.equals(barrierKey) !== true) log.push(watchBody(event, this.#leaseName));
    }
    this.events.set(`${id}`, log);
  }
}
