/** Running migrations as their leader: each write carries the leader's guard. */
import type { Client } from '../../sdk/client.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { Holding } from '../line/holding.ts';
import { randomId } from '../names.ts';
import type { MigrationRecord, Recorded } from './migration-record.ts';

export type MigrationContext = {
  readonly id: string;
  /** 1 for the first; more when an idempotent migration is tried again. */
  readonly attempt: number;
  /** Strictly rises from runner to runner: for systems that refuse lower ones. */
  readonly token: bigint;
  /** Aborts when this process does not lead any more, or the caller of `run` gives up. */
  readonly signal: AbortSignal;
  readonly client: Client;
  /** @throws ConclaveError LEADERSHIP_LOST, SESSION_LOST, SESSION_SUSPENDED */
  assertLeader(): void;
  /** The transaction under the condition that this process still leads when it commits. */
  guard: Holding['guard'];
};

type Common = {
  /** Names it for ever. 1 to 200 bytes. */
  readonly id: string;
  /** Of its content: a number that its author raises, or a checksum. @default '1' */
  readonly version?: string;
};

export type Migration =
  | (Common & {
      /**
       * Changes the store: what it returns is written together with the record that it was, in one
       * transaction. Exactly once. It may read first, and be called again if this process leads again.
       */
      readonly writes: (
        context: MigrationContext,
      ) => Promise<readonly Operation[]> | readonly Operation[];
    })
  | (Common & {
      /** Does whatever it wants. At least once: see `idempotent`. */
      readonly run: (context: MigrationContext) => Promise<unknown> | unknown;
      /**
       * What becomes of it when its runner failed in the middle: true runs it again; false stops until
       * somebody has looked at it and called `resolve`. @default false
       */
      readonly idempotent?: boolean;
    });

/** The leader of a list of migrations, at its work. */
export class MigrationRunner {
  readonly #name: string;
  readonly #holding: Holding;
  readonly #signal: AbortSignal;

  /** @param signal asks functions to stop */
  constructor(name: string, holding: Holding, signal: AbortSignal) {
    this.#name = name;
    this.#holding = holding;
    this.#signal = signal;
  }

  /**
   * Runs one, whose record is at this key.
   *
   * @param before an attempt that did not end
   * @throws what it throws; ConclaveError FAILED_PRECONDITION when an earlier attempt was interrupted
   *   and it is not idempotent; LEADERSHIP_LOST, SESSION_LOST
   */
  async run(migration: Migration, key: string, before: Recorded | undefined): Promise<void> {
    if ('writes' in migration) {
      // Writes leave no such record: the step had effects when it was begun, and may have had some.
      if (before) throw this.#stopped(before.record);
      return this.#write(migration, key);
    }
    if (before && !migration.idempotent) throw this.#stopped(before.record);
    const { clock } = this.#holding.session.client;
    const attempt = (before?.record.attempt ?? 0) + 1;
    const started = this.#record(migration, 'effects', 'started', attempt, clock.wallMs());
    const begun = await this.record(key, before?.kv, started);
    try {
      await migration.run(this.#context(migration.id, attempt));
    } catch (error) {
      // Shown to whoever comes next, if this process may still say so.
      const failed = { ...started, nonce: this.#nonce(), error: messageOf(error) };
      await this.record(key, begun, failed).catch(() => undefined);
      throw this.#holding.lostReason ?? error;
    }
    const finishedMs = clock.wallMs();
    await this.record(key, begun, {
      ...started,
      nonce: this.#nonce(),
      state: 'done',
      finishedMs,
    });
  }

  /**
   * Writes a record in place of what was there, with other writes; takes effect once.
   *
   * @param signal ends the attempts @default the session's
   * @throws ConclaveError LEADERSHIP_LOST, SESSION_LOST, ABORTED by the signal, or what the store answers
   */
  async record(
    key: string,
    before: Pick<KeyValue, 'modRevision'> | undefined,
    record: MigrationRecord,
    writes: readonly Operation[] = [],
    signal?: AbortSignal,
  ): Promise<Pick<KeyValue, 'modRevision'>> {
    const { client, signal: life } = this.#holding.session;
    const txn = this.#holding
      .guard(client.kv.txn())
      .if(compare.modRevision(key, '==', before?.modRevision ?? 0n))
      .then<readonly Operation[]>(op.put(key, JSON.stringify(record)), ...writes)
      .else(op.get(key));
    const commit = () => txn.commit(signal === undefined ? {} : { signal });
    const result = await untilAnswered(client, commit, signal ?? life);
    if (result.succeeded) return { modRevision: result.revision };
    const [found] = result.responses;
    // An attempt whose answer was lost did it.
    if (found && Buffer.from(found.value).toString('utf8') === JSON.stringify(record)) return found;
    this.#holding.verify();
    throw this.#lost();
  }

  /**
   * Removes a record, so that its migration counts as never begun.
   *
   * @param signal ends the attempts
   * @throws as `record`
   */
  async forget({ kv }: Recorded, signal: AbortSignal): Promise<void> {
    const { client } = this.#holding.session;
    const txn = this.#holding
      .guard(client.kv.txn())
      .if(compare.modRevision(kv.key, '==', kv.modRevision))
      .then(op.delete(kv.key))
      .else(op.get(kv.key));
    const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
    // A record that is gone was removed by an attempt whose answer was lost.
    if (result.succeeded || result.responses[0] === null) return;
    this.#holding.verify();
    throw this.#lost();
  }

  async #write(migration: Extract<Migration, { writes: unknown }>, key: string): Promise<void> {
    const { clock } = this.#holding.session.client;
    const startedMs = clock.wallMs();
    const attempt = 1;
    let writes: readonly Operation[];
    try {
      writes = await migration.writes(this.#context(migration.id, attempt));
    } catch (error) {
      throw this.#holding.lostReason ?? error;
    }
    const record = this.#record(migration, 'writes', 'done', attempt, startedMs);
    await this.record(key, undefined, { ...record, finishedMs: clock.wallMs() }, writes);
  }

  #record(
    { id, version = '1' }: Common,
    kind: MigrationRecord['kind'],
    state: MigrationRecord['state'],
    attempt: number,
    startedMs: number,
  ): MigrationRecord {
    const { key: runner, session, token } = this.#holding;
    return {
      v: 1,
      id,
      version,
      kind,
      state,
      runner,
      by: session.id,
      meta: session.meta,
      attempt,
      token: `${token}`,
      nonce: this.#nonce(),
      startedMs,
    };
  }

  #nonce(): string {
    return randomId(this.#holding.session.client.random);
  }

  #context(id: string, attempt: number): MigrationContext {
    const holding = this.#holding;
    return {
      id,
      attempt,
      token: holding.token,
      signal: this.#signal,
      client: holding.session.client,
      assertLeader: () => holding.assertHeld(),
      guard: (txn) => holding.guard(txn),
    };
  }

  #stopped({ id, by, startedMs, error }: MigrationRecord): ConclaveError {
    const since = new Date(startedMs).toISOString();
    const how = error === undefined ? 'and did not end' : `and failed: ${error}`;
    const message = `Migration '${id}' of '${this.#name}' was begun by session ${by} at ${since} ${how}`;
    return new ConclaveError('FAILED_PRECONDITION', message, {
      outcome: 'unknown',
      remedy: `See what it has done. Then call resolve('${id}', 'done'), or resolve('${id}', 'again').`,
    });
  }

  #lost(): ConclaveError {
    const message = `Another process runs the migrations '${this.#name}' by now`;
    return this.#holding.lostReason ?? new ConclaveError('LEADERSHIP_LOST', message);
  }
}

/** As much of an error as is kept. */
const errorLengthMax = 1_000;

const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).slice(0, errorLengthMax);
