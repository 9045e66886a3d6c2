/**
 * The instances of a service as the store last told: a copy kept fresh by a watch, and compared with
 * the store now and then. While the store cannot be reached, the last known instances stay and `stale` says so;
 * they never vanish because of it.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type FollowNotice, PrefixFollower } from '../common/prefix-follower.ts';
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
  readonly #place: ServicePlace<M>;
  readonly #consumer: FeedConsumer<M>;
  readonly #follower: PrefixFollower;
  /** undefined until the store has answered once. */
  #known: readonly Instance<M>[] | undefined;
  #stale = true;

  constructor(
    client: Client,
    place: ServicePlace<M>,
    recheckMs: number,
    consumer: FeedConsumer<M>,
  ) {
    this.#place = place;
    this.#consumer = consumer;
    const { prefix } = place;
    const follow = { prefix, recheckMs, isPatient: true };
    this.#follower = new PrefixFollower(client, follow, (notice) => this.#hear(notice));
  }

  get stale(): boolean {
    return this.#stale;
  }

  /** Reads everything again, now, unless it is being read: also when the store has just refused it. */
  refresh(): void {
    this.#follower.askAnew();
  }

  /** Idempotent; never rejects. */
  close(): Promise<void> {
    return this.#follower.close();
  }

  #hear(notice: FollowNotice): void {
    switch (notice.type) {
      case 'reset':
      case 'changed':
        this.#show(
          this.#follower.copy.values(),
          notice.revision,
          notice.type === 'reset' && notice.reason === 'rewound',
        );
        this.#mark(this.#follower.stale);
        return;
      case 'stale':
      case 'fresh':
        this.#mark(notice.type === 'stale');
        return;
      case 'refused':
    }
  }

  #mark(stale: boolean): void {
    if (this.#stale === stale) return;
    this.#stale = stale;
    this.#consumer.mark(stale);
  }

  /** @param rewound the store was restored: the same revision may have written something else */
  #show(entries: Iterable<KeyValue>, revision: bigint, rewound: boolean): void {
    const { prefix, codec } = this.#place;
    const known = new Map(this.#known?.map((each) => [each.id, each]));
    const instances: Instance<M>[] = [];
    const changes: Change<M>[] = [];
    for (const kv of entries) {
      const instance = readInstance<M>(prefix, kv, codec);
      if (!instance) continue;
      const before = known.get(instance.id);
      known.delete(instance.id);
      if (!before) changes.push({ type: 'joined', instance });
      else if (before.modRevision !== instance.modRevision || rewound) {
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
