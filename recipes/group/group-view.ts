/** The members of a group as one process follows them. */
import type { Subscriber } from 'rxjs';
import type { Codec } from '../../sdk/codec.ts';
import { type ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { RecipeContext } from '../common/context.ts';
import type { CopyChange } from '../common/prefix-copy.ts';
import { type FollowNotice, PrefixFollower, type ResetReason } from '../common/prefix-follower.ts';
import { inOrder, type Member, readMember } from './member.ts';
import type { Step } from './steps.ts';

/** Who is there at one revision. */
export type GroupSnapshot<T> = {
  /** In order of their create revisions. */
  readonly members: readonly Member<T>[];
  readonly revision: bigint;
  /** Whether the store has not answered lately, so that this may be out of date. */
  readonly stale: boolean;
};

export type GroupEvent<T> =
  /** Forget all else: these are the members. First, and whenever changes could not be followed. */
  | {
      readonly type: 'reset';
      readonly reason: ResetReason | 'overflow';
      readonly members: readonly Member<T>[];
      readonly revision: bigint;
    }
  | {
      readonly type: 'joined' | 'left' | 'updated';
      readonly member: Member<T>;
      readonly revision: bigint;
    }
  | { readonly type: 'stale'; readonly error?: ConclaveError }
  | { readonly type: 'fresh' };

export type GroupStep<T> = Step<GroupSnapshot<T>, GroupEvent<T>>;

type GroupPlace<T> = {
  readonly prefix: string;
  readonly codec: Codec<T>;
  readonly recheckMs: number;
};

export class GroupView<T> {
  readonly #context: RecipeContext;
  readonly #place: GroupPlace<T>;
  readonly #subscriber: Subscriber<GroupStep<T>>;
  readonly #follower: PrefixFollower;
  readonly #members = new Map<string, Member<T>>();
  #snapshot: GroupSnapshot<T> | undefined;

  constructor(context: RecipeContext, place: GroupPlace<T>, subscriber: Subscriber<GroupStep<T>>) {
    this.#context = context;
    this.#place = place;
    this.#subscriber = subscriber;
    this.#follower = new PrefixFollower(context.session.client, place, (notice) =>
      this.#hear(notice),
    );
    context.background.add(this);
    if (isConclaveError(context.session.signal.reason, 'CLOSED')) void this.close();
    void this.#follower.ended.then(() => this.close());
  }

  async close(): Promise<void> {
    this.#context.background.delete(this);
    this.#subscriber.complete();
    await this.#follower.close();
  }

  #hear(notice: FollowNotice): void {
    switch (notice.type) {
      case 'reset': {
        const { reason, revision } = notice;
        this.#members.clear();
        for (const kv of this.#follower.copy.values()) {
          const member = this.#read(kv);
          if (member) this.#members.set(kv.key, member);
        }
        const { members } = this.#take(revision);
        this.#tell({ type: 'reset', reason, members, revision });
        return;
      }
      case 'changed': {
        // Each event shows the members after the whole revision: there is no state in between.
        const events = notice.changes.flatMap((change) => this.#change(change));
        this.#take(notice.revision);
        for (const event of events) this.#tell(event);
        return;
      }
      case 'stale':
      case 'fresh':
        if (this.#snapshot) {
          this.#snapshot = { ...this.#snapshot, stale: notice.type === 'stale' };
        }
        this.#tell(notice);
        return;
      case 'refused':
    }
  }

  #change({ type, kv }: CopyChange): GroupEvent<T>[] {
    const revision = kv.modRevision;
    const before = this.#members.get(kv.key);
    const member = type === 'put' ? this.#read(kv) : undefined;
    if (member) this.#members.set(kv.key, member);
    else this.#members.delete(kv.key);
    if (before && member && before.incarnation === member.incarnation) {
      return [{ type: 'updated', member, revision }];
    }
    return [
      ...(before ? [{ type: 'left', member: before, revision } as const] : []),
      ...(member ? [{ type: 'joined', member, revision } as const] : []),
    ];
  }

  #read(kv: KeyValue): Member<T> | undefined {
    return readMember(this.#place.prefix, kv, this.#place.codec);
  }

  #take(revision: bigint): GroupSnapshot<T> {
    const members = inOrder(this.#members.values());
    this.#snapshot = { members, revision, stale: this.#follower.stale };
    return this.#snapshot;
  }

  #tell(event: GroupEvent<T>): void {
    this.#subscriber.next({ state: this.#snapshot, event });
  }
}
