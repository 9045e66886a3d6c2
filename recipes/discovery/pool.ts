/**
 * The instances of a service as one client knows them: a listing kept fresh by a watch, and read
 * anew now and then. While the store cannot be reached, the last known instances stay and `stale`
 * says so; they never vanish because of it.
 */
import { filter, Subscription } from 'rxjs';
import { aborted, ConclaveError, throwIfAborted } from '../../sdk/errors.ts';
import { EventSource, type Observable, StateSource } from '../../sdk/observe.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { type PrefixView, viewPrefix } from '../common/prefix-view.ts';
import { pause } from '../common/repeat.ts';
import { linkedSignal, onAbort } from '../common/signals.ts';
import { type Instance, readInstance } from './instance.ts';
import { powerOfTwoChoices, type Strategy } from './strategies.ts';

export type PoolOptions = {
  /** @default powerOfTwoChoices() */
  readonly strategy?: Strategy;
  /** How often everything is read again, which also shows whether the store answers. @default '10s' */
  readonly recheck?: Duration;
};

export type PoolEvent<M> =
  | { readonly type: 'joined' | 'left' | 'updated'; readonly instance: Instance<M> }
  | { readonly type: 'stale' | 'fresh' };

/** An instance in use. Release it when the work is done: strategies count what is in flight. */
export interface Picked<M> extends Disposable {
  readonly instance: Instance<M>;
  /** Idempotent. */
  release(): void;
}

export class Pool<M> implements AsyncDisposable {
  /** All instances, draining ones included; emits once they are known, then on each change. */
  readonly instances$: Observable<readonly Instance<M>[]>;
  readonly events$: Observable<PoolEvent<M>>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #strategy: Strategy;
  readonly #recheckMs: number;
  readonly #closing = new AbortController();
  readonly #instances = new StateSource<readonly Instance<M>[] | undefined>(undefined);
  readonly #events = new EventSource<PoolEvent<M>>();
  readonly #inFlight = new Map<string, number>();
  readonly #running: Promise<void>;
  #stale = true;
  /** Ends the current view, so that everything is read again. */
  #reread: () => void = () => undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, prefix: string, options: PoolOptions = {}) {
    this.#context = context;
    this.#prefix = prefix;
    this.#strategy = options.strategy ?? powerOfTwoChoices();
    this.#recheckMs = parsePeriod(options.recheck ?? '10s', 'recheck');
    this.instances$ = this.#instances.observable.pipe(filter((value) => value !== undefined));
    this.events$ = this.#events.observable;
    context.background.add(this);
    this.#running = this.#run();
  }

  /** The instances last known, in the order of their ids; empty until the first answer. */
  get snapshot(): readonly Instance<M>[] {
    return this.#instances.value ?? [];
  }

  /** Whether the store has not answered lately (or yet), so that `snapshot` may be out of date. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Resolves once the instances are known. @throws ConclaveError ABORTED, CLOSED */
  async ready(signal?: AbortSignal): Promise<void> {
    if (this.#instances.value !== undefined) return;
    throwIfAborted(signal);
    await new Promise<void>((resolve, reject) => {
      const subscription = new Subscription();
      const settle = (how: () => void) => {
        stopListening();
        subscription.unsubscribe();
        how();
      };
      const stopListening = onAbort(signal, () => settle(() => signal && reject(aborted(signal))));
      const onClosed = () => reject(new ConclaveError('CLOSED', 'The pool was closed'));
      subscription.add(
        this.instances$.subscribe({
          next: () => settle(resolve),
          complete: () => settle(onClosed),
        }),
      );
    });
  }

  /** An instance to use next, by the pool's strategy; null when none is up. */
  pick(): Picked<M> | null {
    const up = this.snapshot.filter(({ status }) => status === 'up');
    if (up.length === 0) return null;
    const { random } = this.#context.session.client;
    const inFlight = (id: string) => this.#inFlight.get(id) ?? 0;
    const instance = this.#strategy(up, { inFlight, random });
    this.#inFlight.set(instance.id, inFlight(instance.id) + 1);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      const left = inFlight(instance.id) - 1;
      if (left > 0) this.#inFlight.set(instance.id, left);
      else this.#inFlight.delete(instance.id);
    };
    return { instance, release, [Symbol.dispose]: release };
  }

  /** Idempotent; never rejects. */
  async close(): Promise<void> {
    this.#context.background.delete(this);
    this.#closing.abort();
    await this.#running;
    this.#instances.complete();
    this.#events.complete();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { client } = this.#context.session;
    // A broken connection is a reason to find out at once.
    const connection = client.events$.subscribe((event) => {
      if (event.type === 'disconnected') this.#reread();
    });
    while (!signal.aborted) {
      const turn = linkedSignal(signal);
      this.#reread = turn.abort;
      let cancel: () => void = () => undefined;
      const rereadLater = () => {
        const delayMs = this.#recheckMs * (0.75 + 0.5 * client.random());
        // Reading anew must not cut short what is retrying already.
        cancel = client.clock.setTimer(delayMs, () => (this.#stale ? rereadLater() : turn.abort()));
      };
      rereadLater();
      try {
        const onTrouble = (error: unknown) => error !== undefined && this.#mark(true);
        const views = viewPrefix(client, this.#prefix, { signal: turn.signal, onTrouble });
        for await (const view of views) {
          this.#mark(false);
          this.#show(view);
        }
      } catch {
        // Refused (permissions, say): keep what is known and ask again at the slow pace.
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
    this.#events.emit({ type: stale ? 'stale' : 'fresh' });
  }

  #show({ entries }: PrefixView): void {
    const before = new Map(this.snapshot.map((instance) => [instance.id, instance]));
    const instances: Instance<M>[] = [];
    const events: PoolEvent<M>[] = [];
    for (const kv of entries.values()) {
      const instance = readInstance<M>(this.#prefix, kv);
      if (!instance) continue;
      const known = before.get(instance.id);
      before.delete(instance.id);
      if (!known) events.push({ type: 'joined', instance });
      else if (known.modRevision !== instance.modRevision) {
        events.push({ type: 'updated', instance });
      }
      instances.push(instance);
    }
    for (const instance of before.values()) events.push({ type: 'left', instance });
    if (events.length === 0 && this.#instances.value !== undefined) return;
    instances.sort((a, b) => (a.id < b.id ? -1 : 1));
    this.#instances.set(instances);
    for (const event of events) this.#events.emit(event);
  }
}
