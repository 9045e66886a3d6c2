/**
 * One registration's key in the store. Every write is fenced by the modRevision of the one before and
 * carries the registration's own mark and a sequence, so that its repetition recognises it; every
 * delete takes away only what bears the mark.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue, Kv } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type InstanceRecord, readInstanceRecord } from './instance.ts';

/** What a registration writes, less what marks it as its own. */
export type EntryData<M> = Omit<InstanceRecord<M>, 'v' | 'registration' | 'sequence'>;

export class Entry<M> {
  readonly key: string;
  readonly #mark: string;
  /** The modRevision of what is known to be there; 0 for nothing. */
  #revision = 0n;
  /** Whether any write was ever confirmed. */
  #had = false;
  #session: Session | undefined;
  #sequence = 0;

  /** @param mark random: tells this registration's writes from those of others with the same id */
  constructor(key: string, mark: string) {
    this.key = key;
    this.#mark = mark;
  }

  /** Whether the session's lease keeps the last confirmed write. */
  livesBy(session: Session): boolean {
    return this.#session === session;
  }

  #isMine(kv: KeyValue): boolean {
    return readInstanceRecord<M>(kv).registration === this.#mark;
  }

  /**
   * Writes the data under the session's lease.
   *
   * @param data read anew for each attempt
   * @returns whose the entry is now; another registration's only if this one has had it before
   */
  async write(
    session: Session,
    data: () => { readonly data: EntryData<M>; readonly sequence: number },
    signal: AbortSignal,
  ): Promise<{ readonly wrote: number } | 'replaced'> {
    const { client, lease } = session;
    for (let first = !this.#had; ; ) {
      const { data: latest, sequence } = data();
      const record = { v: 1, ...latest, registration: this.#mark, sequence } as const;
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.key, '==', this.#revision))
        .then(op.put(this.key, JSON.stringify(record satisfies InstanceRecord<M>), { lease }))
        .else(op.get(this.key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) {
        this.#confirm(session, result.revision, sequence);
        return { wrote: sequence };
      }
      const found = result.responses[0];
      if (found && this.#isWrite(found, session, sequence)) {
        // An earlier attempt took effect and its answer was lost.
        this.#confirm(session, found.modRevision, sequence);
        return { wrote: sequence };
      }
      if (found && !first && !this.#isMine(found)) return 'replaced';
      // Gone: write it anew. Mine: update it. Another's, when registering: it is an earlier
      // incarnation that ended without saying so, or will learn that it was replaced.
      this.#revision = found?.modRevision ?? 0n;
      first &&= found === null;
    }
  }

  /** Whether the store still has what was last confirmed. One exchange. */
  async isIntact(session: Session, signal: AbortSignal): Promise<boolean> {
    const { client } = session;
    const found = await untilAnswered(client, () => client.kv.get(this.key, { signal }), signal);
    if (!found || !this.#isWrite(found, session, this.#sequence)) return false;
    // A store that was restored counts other revisions.
    this.#revision = found.modRevision;
    return true;
  }

  /** Takes the entry away if it is this registration's. @throws ConclaveError */
  async remove(client: Client, commit: { readonly timeout?: number } = {}): Promise<void> {
    for (let revision = this.#revision; ; ) {
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.key, '==', revision))
        .then(op.delete(this.key))
        .else(op.get(this.key));
      const result = await txn.commit(commit);
      const found = result.succeeded ? null : result.responses[0];
      if (!found || !this.#isMine(found)) {
        this.#session = undefined;
        this.#revision = 0n;
        return;
      }
      revision = found.modRevision;
    }
  }

  /** Whether it was removed or replaced; false when the signal aborts first. */
  async changesHands(kv: Kv, signal: AbortSignal): Promise<boolean> {
    for await (const notice of kv.watch(this.key, { from: this.#revision + 1n, signal })) {
      if (notice.type === 'progress') continue;
      const latest =
        notice.type === 'reset'
          ? notice.kvs[0]
          : notice.events.findLast(({ type }) => type === 'put')?.kv;
      const gone = notice.type === 'reset' ? !latest : notice.events.at(-1)?.type === 'delete';
      if (gone || (latest && !this.#isMine(latest))) return true;
    }
    return false;
  }

  #isWrite(found: KeyValue, session: Session, sequence: number): boolean {
    const { registration, sequence: written } = readInstanceRecord<M>(found);
    return registration === this.#mark && written === sequence && found.lease === session.lease;
  }

  #confirm(session: Session, revision: bigint, sequence: number): void {
    this.#session = session;
    this.#revision = revision;
    this.#had = true;
    this.#sequence = sequence;
  }
}
