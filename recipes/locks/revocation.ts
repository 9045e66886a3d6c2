/**
 * Asking a holder to let go. The request is written into the holder's own key, so it disappears with
 * the hold and can reach nobody else; the holder hears of it through the watch it has anyway. Nothing
 * forces the holder: that is what TTLs and `maxHold` are for.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import { parseRecord } from '../common/json-record.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { Meta } from '../line/line-record.ts';

/** Who wants the lock, as the holder sees it. */
export type Revocation = {
  /** The session that asked, in hexadecimal. */
  readonly by: string;
  readonly meta: Meta;
  readonly reason: string;
  /** When it asked, by its own wall clock. */
  readonly since: Date;
};

type RevocationRecord = {
  readonly by: string;
  readonly meta: Meta;
  readonly reason: string;
  readonly sinceMs: number;
};

/** Undefined while nobody has asked. */
export function revocationIn(kv: Pick<KeyValue, 'value'>): Revocation | undefined {
  const record = parseRecord(kv)['revocation'] as Partial<RevocationRecord> | undefined;
  if (typeof record !== 'object' || typeof record.by !== 'string') return undefined;
  const { by, meta = {}, reason = '', sinceMs = 0 } = record;
  return { by, meta, reason, since: new Date(sinceMs) };
}

/**
 * Asks the first of a line. Resolves to whether there is one; asking again changes nothing.
 *
 * @throws ConclaveError FAILED_PRECONDITION when the first key was written by something else
 */
export async function requestRevocation(
  session: Session,
  prefix: string,
  reason: string,
): Promise<boolean> {
  const { client, id, meta, signal } = session;
  const sinceMs = client.clock.wallMs();
  const revocation: RevocationRecord = { by: id, meta, reason, sinceMs };
  for (;;) {
    const first = { order: 'create', limit: 1 } as const;
    const { kvs } = await untilAnswered(client, () => client.kv.list({ prefix }, first), signal);
    const [holder] = kvs;
    if (holder === undefined) return false;
    const record = parseRecord(holder);
    if (record['v'] !== 1) {
      const message = `The holder '${holder.key}' does not take requests: something else wrote its key`;
      throw new ConclaveError('FAILED_PRECONDITION', message);
    }
    if (revocationIn(holder)) return true;
    const txn = client.kv
      .txn()
      .if(compare.modRevision(holder.key, '==', holder.modRevision))
      .then(op.put(holder.key, JSON.stringify({ ...record, revocation }), { lease: holder.lease }));
    try {
      if ((await untilAnswered(client, () => txn.commit(), signal)).succeeded) return true;
    } catch (error) {
      // The holder's session ended in between.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
  }
}
