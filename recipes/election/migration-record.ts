/** What the store keeps of each migration, and whether it is what a client has in mind. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';
import type { Meta } from '../line/line-record.ts';

/** `writes`: in one transaction with its record. `effects`: between a record of its start and its end. */
export type MigrationKind = 'writes' | 'effects';

export type MigrationRecord = {
  readonly v: 1;
  readonly id: string;
  readonly version: string;
  readonly kind: MigrationKind;
  readonly state: 'started' | 'done';
  /** The key in the line of whoever runs or ran it. */
  readonly runner: string;
  /** Its session, in hexadecimal. */
  readonly by: string;
  readonly meta: Meta;
  /** 1 for the first. */
  readonly attempt: number;
  /** The fencing token of the attempt. */
  readonly token: string;
  /** Unique to this write: a repetition recognises it. */
  readonly nonce: string;
  readonly startedMs: number;
  readonly finishedMs?: number;
  /** What the last attempt threw. */
  readonly error?: string;
  /** An operator said that it is done. */
  readonly resolved?: true;
};

/** Undefined when something else wrote the key. */
export function decodeMigration(kv: Pick<KeyValue, 'value'>): MigrationRecord | undefined {
  const record = parseRecord(kv) as Partial<MigrationRecord>;
  const isOurs = record.v === 1 && typeof record.id === 'string';
  return isOurs && (record.state === 'started' || record.state === 'done')
    ? (record as MigrationRecord)
    : undefined;
}

/** A record with the key it is in. */
export type Recorded = { readonly kv: KeyValue; readonly record: MigrationRecord };

/** Digits of the place in a key, so that their order is the migrations' order. */
const placeDigits = 6;

export const stepKey = (stepPrefix: string, place: number): string =>
  stepPrefix + `${place + 1}`.padStart(placeDigits, '0');

/** How many migrations there may be in one list. */
export const migrationsMax = 10 ** placeDigits - 1;

/** A migration as far as others must agree on it. */
export type Planned = { readonly id: string; readonly version: string };

/**
 * The records by place.
 *
 * @throws ConclaveError MISMATCH when they are not those of the plan, in its order: some may be missing
 *   at the end, and there may be more than planned
 */
export function recordsOf(
  name: string,
  stepPrefix: string,
  plan: readonly Planned[],
  entries: Iterable<KeyValue>,
): readonly Recorded[] {
  const found = new Map<string, KeyValue>();
  for (const kv of entries) if (kv.key.startsWith(stepPrefix)) found.set(kv.key, kv);
  const records: Recorded[] = [];
  for (let place = 0; place < found.size; place++) {
    const key = stepKey(stepPrefix, place);
    const kv = found.get(key);
    const record = kv && decodeMigration(kv);
    if (kv === undefined || record === undefined) {
      throw mismatch(name, `the record '${key}' of number ${place + 1} is missing or damaged`);
    }
    const planned = plan[place];
    if (planned && planned.id !== record.id) {
      const what = `number ${place + 1} is '${record.id}' in the store and '${planned.id}' here`;
      throw mismatch(name, what);
    }
    if (planned && planned.version !== record.version) {
      const what = `'${record.id}' has version '${record.version}' in the store`;
      throw mismatch(name, `${what} and '${planned.version}' here`);
    }
    records.push({ kv, record });
  }
  return records;
}

const mismatch = (name: string, what: string): ConclaveError =>
  new ConclaveError('MISMATCH', `The migrations '${name}' are others than this client's: ${what}`, {
    remedy: 'Add migrations at the end of the list only, and never change one that has run.',
  });

/** Where a migration stands, as people see it. */
export type MigrationStatus = {
  readonly id: string;
  readonly version: string;
  /**
   * - `pending`: nobody has begun it.
   * - `running`: whoever is first in line is at it.
   * - `interrupted`: its runner is gone; it may have had any part of its effects.
   * - `failed`: its last attempt threw `error`.
   * - `done`
   * - `damaged`: what is in the place of its record is none. Who runs the migrations gets MISMATCH.
   */
  readonly state: 'pending' | 'running' | 'interrupted' | 'failed' | 'done' | 'damaged';
  /** The session that ran it last, in hexadecimal, with its meta. */
  readonly by?: string;
  readonly meta?: Meta;
  /** How often it was begun. */
  readonly attempts: number;
  readonly token?: bigint;
  /** By the wall clock of who ran it. */
  readonly startedAt?: Date;
  readonly finishedAt?: Date;
  readonly error?: string;
  /** An operator said that it is done. */
  readonly resolved: boolean;
};

export const pendingStatus = ({ id, version }: Planned): MigrationStatus => ({
  id,
  version,
  state: 'pending',
  attempts: 0,
  resolved: false,
});

/**
 * @param id for a record that does not tell it
 * @param leader the key of whoever is first in line
 */
export function statusOf(kv: KeyValue, id: string, leader: string | undefined): MigrationStatus {
  const record = decodeMigration(kv);
  if (record === undefined) {
    return { id, version: '', state: 'damaged', attempts: 0, resolved: false };
  }
  const { version, by, meta, attempt, token, startedMs, finishedMs, error } = record;
  return {
    id: record.id,
    version,
    state: stateOf(record, leader),
    by,
    meta,
    attempts: attempt,
    token: BigInt(token),
    startedAt: new Date(startedMs),
    ...(finishedMs === undefined ? {} : { finishedAt: new Date(finishedMs) }),
    ...(error === undefined ? {} : { error }),
    resolved: record.resolved === true,
  };
}

function stateOf(
  { state, error, runner }: MigrationRecord,
  leader: string | undefined,
): MigrationStatus['state'] {
  if (state === 'done') return 'done';
  if (error !== undefined) return 'failed';
  return runner === leader ? 'running' : 'interrupted';
}
