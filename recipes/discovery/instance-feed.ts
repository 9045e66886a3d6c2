/**
 * The instances of a service as the store last told: a listing kept fresh by a watch, and read anew
 * now and then. While the store cannot be reached, the last known instances stay and `stale` says so;
 * they never vanish because of it.
 */
import type { Client } from '../../sdk/client.ts';
import { type PrefixView, viewPrefix } from '../common/prefix-view.ts';
import { pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import { type Instance, readInstance, type ServicePlace } from './instance.ts';

export type Change<M> =
  | { readonly type: 'joined' | 'left'; readonly instance: Instance<M> }
  | { readonly type: 'updated'; readonly instance: Instance<M>; readonly before: Instance<M> };

/** Who hears of the instances. */
export type FeedConsumer<M> = {
  /** All of them as of a revision, in the order of their ids, and how they differ from before. */
  show(instances: readonly Instance<M>[], changes: readonly Change<M>[], revision: bigint): void;
  /** The store has not answered lately, or does so again. */
  mark(stale: boolean): void;
};

export class InstanceFeed<M> {
  readonly #client: Client;
  readonly #place: ServicePlace<M>;
  readonly #recheckMs: number;
  readonly #consumer: FeedConsumer<M>;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  /** undefined until the store has answered once. */
  #known: readonly Instance<M>[] | undefined;
  #stale = true;
  /** From asking for everything until the store has told or refused it. */
  #isReading = true;
  /** Ends the current view, so that everything is read again. */
  #reread: () => void = () => undefined;

  constructor(
    client: Client,
    place: ServicePlace<M>,
    recheckMs: number,
    consumer: FeedConsumer<M>,
  ) {
    this.#client = client;
    this.#place = place;
    this.#recheckMs = recheckMs;
    this.#consumer = consumer;
    this.#running = this.#run();
  }

  get stale(): boolean {
    return this.#stale;
  }

  /** Reads everything again, now, unless it is being read: also when the store has just refused it. */
  refresh(): void {
    if (!this.#isReading) this.#reread();
  }

  /** Idempotent; never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const client = this.#client;
    // A broken connection is a reason to find out at once.
    const connection = client.events$.subscribe((event) => {
      if (event.type === 'disconnected') this.#reread();
    });
    while (!signal.aborted) {
      const turn = linkedSignal(signal);
      this.#reread = turn.abort;
      this.#isReading = true;
      let cancel: () => void = () => undefined;
      const rereadLater = () => {
        const delayMs = this.#recheckMs * (0.75 + 0.5 * client.random());
        // Reading anew must not cut short what is retrying already.
        cancel = client.clock.setTimer(delayMs, () => (this.#stale ? rereadLater() : turn.abort()));
      };
      rereadLater();
      try {
        const onTrouble = (error: unknown) => error !== undefined && this.#mark(true);
        const views = viewPrefix(client, this.#place.prefix, { signal: turn.signal, onTrouble });
        for await (const view of views) {
          this.#isReading = false;
          this.#show(view);
          this.#mark(false);
        }
      } catch {
        // Refused (permissions, say): keep what is known and ask again at the slow pace.
        this.#isReading = false;
        this.#mark(true);
        await pause(client.clock, this.#recheckMs, turn.signal).catch(() => undefined);
      } finally {
        cancel();
        turn.unlink();
      }
    }
    connection.unsubscribe();
  }

  #mark(stale: boolean): void {
    if (this.#stale === stale) return;
    this.#stale = stale;
    this.#consumer.mark(stale);
  }

  #show({ entries, revision }: PrefixView): void {
    const { prefix, codec } = this.#place;
    const known = new Map(this.#known?.map((each) => [each.id, each]));
    const instances: Instance<M>[] = [];
    const changes: Change<M>[] = [];
    for (const kv of entries.values()) {
      const instance = readInstance<M>(prefix, kv, codec);
      if (!instance) continue;
      const before = known.get(instance.id);
      known.delete(instance.id);
      if (!before) changes.push({ type: 'joined', instance });
      else if (before.modRevision !== instance.modRevision) {
        changes.push({ type: 'updated', instance, before });
      }
      instances.push(instance);
    }
    for (const instance of known.values()) changes.push({ type: 'left', instance });
    if (changes.length === 0 && this.#known !== undefined) return;
    instances.sort((a, b) => (a.id < b.id ? -1 : 1));
    this.#known = instances;
    this.#consumer.show(instances, changes, revision);
  }
}
