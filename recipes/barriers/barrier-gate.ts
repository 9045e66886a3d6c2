/** The key of a raised barrier, and whoever holds it up. */
import { isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { jittered } from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import type { HeldMember } from '../line/holding.ts';
import type { LineEnd } from '../line/line.ts';
import { Follower } from './follower.ts';

export type Gate = {
  readonly key: string;
  readonly createRevision: bigint;
  /** The op-record of its raising, if nothing needs that any more. */
  readonly spent: string | undefined;
  readonly recheckMs: number;
};

/** Follows the gate that a session holds up, and takes it down. */
export class GateKeeper implements HeldMember {
  readonly key: string;
  readonly #session: Session;
  readonly #gate: Gate;
  readonly #ended: (end: LineEnd) => void;
  readonly #follower: Follower;
  #stopListening = () => {};
  #cancelRecheck = () => {};
  #over = false;

  /** @param ended called when somebody else took the gate down, or the session was lost */
  constructor(session: Session, gate: Gate, ended: (end: LineEnd) => void) {
    const { client } = session;
    this.key = gate.key;
    this.#session = session;
    this.#gate = gate;
    this.#ended = ended;
    this.#follower = new Follower(client, () => this.#recheckDelayMs() / 10, {
      events: (events) => {
        if (events.some(({ type }) => type === 'delete')) this.#end({ kind: 'place-lost' });
      },
      look: () => this.verify(),
    });
    this.#stopListening = onAbort(session.signal, () => this.#end({ kind: 'session-lost' }));
    if (!session.signal.aborted) this.#follow(gate.createRevision);
  }

  /** Fenced by the gate's create revision. @throws ConclaveError when not confirmed in time */
  async leave(): Promise<void> {
    this.#finish();
    if (this.#session.signal.aborted) return;
    try {
      await this.#remove();
    } catch (error) {
      this.#session.reap(() => this.#remove());
      throw error;
    }
  }

  verify(): void {
    void this.#look();
  }

  async #look(): Promise<void> {
    if (this.#over) return;
    const { kvs, revision } = await this.#session.client.kv
      .list(this.key)
      .catch(() => ({ kvs: undefined, revision: 0n }));
    if (this.#over) return;
    // Unanswered: the session tells when that goes on for too long.
    if (kvs === undefined) this.#recheckLater();
    else if (kvs[0]?.createRevision !== this.#gate.createRevision) {
      this.#end({ kind: 'place-lost' });
    } else this.#follow(revision);
  }

  #follow(revision: bigint): void {
    this.#follower.follow({ range: this.key, puts: false }, revision);
    this.#recheckLater();
  }

  #recheckLater(): void {
    this.#cancelRecheck();
    this.#cancelRecheck = this.#session.client.clock.setTimer(this.#recheckDelayMs(), () =>
      this.verify(),
    );
  }

  #recheckDelayMs(): number {
    return jittered(this.#gate.recheckMs, this.#session.client.random);
  }

  #end(end: LineEnd): void {
    if (this.#over) return;
    this.#finish();
    this.#ended(end);
  }

  #finish(): void {
    this.#over = true;
    this.#cancelRecheck();
    this.#follower.stop();
    this.#stopListening();
  }

  async #remove(): Promise<boolean> {
    const { key, createRevision, spent } = this.#gate;
    // What says that it was raised goes in any case, also when somebody else lowered it.
    const record: Operation[] = spent === undefined ? [] : [op.delete(spent)];
    try {
      await this.#session.client.kv
        .txn()
        .if(compare.createRevision(key, '==', createRevision))
        .then(op.delete(key), ...record)
        .else(...record)
        .commit();
    } catch (error) {
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    return true;
  }
}
