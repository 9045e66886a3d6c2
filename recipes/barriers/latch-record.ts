/**
 * What a latch keeps, and what is written in one transaction so that no arrival is lost and none counts
 * twice.
 *
 *     gate                  which round it is, and which was the last that opened
 *     round/<n>/tally       rewritten by each arrival: its version is the number of arrivals
 *     round/<n>/id/<id>     one key for each arrival
 *
 * The version counts without conflicts: an arrival writes the tally blindly, under the condition that
 * its own key is new. The one that finds the count one short opens the gate, in the same transaction.
 */
import type { KeyValue } from '../../sdk/kv.ts';
import { isCount, parseRecord, type Stored } from '../common/json-record.ts';
import type { Meta } from '../line/line-record.ts';
import { sortableHex, unescapeName } from '../names.ts';

export type LatchGate = {
  /** Rises with each reset; the first is 1. */
  readonly round: number;
  /** The highest round that opened; 0 for none. Never falls. */
  readonly opened: number;
  /** How many arrivals that round was made for. */
  readonly count: number;
};

/** Before anybody wrote one. */
export const firstGate: LatchGate = { round: 1, opened: 0, count: 0 };

export const isOpen = ({ round, opened }: LatchGate): boolean => opened === round;

/** The same gate is always written alike: conditions compare the text. */
export const encodeGate = ({ round, opened, count }: LatchGate): string =>
  JSON.stringify({ v: 1, round, opened, count });

/** What is no gate counts as none. */
export function decodeGate(kv: Stored): LatchGate {
  const { round, opened, count } = parseRecord(kv);
  if (!isCount(round) || round === 0 || !isCount(opened) || !isCount(count)) return firstGate;
  return { round, opened, count };
}

export const encodeTally = (count: number): string => JSON.stringify({ v: 1, count });

/** How many arrivals the latch was made for; undefined while nobody has arrived. */
export function decodeTally(kv: Stored): number | undefined {
  const { count } = parseRecord(kv);
  return isCount(count) && count > 0 ? count : undefined;
}

/** Who arrived, as its key says. */
export type Arrival = {
  readonly id: string;
  /** The session that it arrived by, which may be over. */
  readonly session: string;
  /** When, by its own wall clock. */
  readonly since: Date;
  readonly meta: Meta;
};

export type ArrivalRecord = {
  readonly session: string;
  /** Unique to the call, so that it recognises itself. */
  readonly nonce: string;
  readonly sinceMs: number;
  readonly meta: Meta;
};

export const encodeArrival = (record: ArrivalRecord): string => JSON.stringify({ v: 1, ...record });

export const nonceOf = (kv: Pick<KeyValue, 'value'>): unknown => parseRecord(kv)['nonce'];

export function decodeArrival(kv: KeyValue, prefix: string): Arrival {
  const { session, sinceMs, meta } = parseRecord(kv);
  return {
    id: unescapeName(kv.key.slice(prefix.length)),
    session: typeof session === 'string' ? session : '',
    since: new Date(typeof sinceMs === 'number' ? sinceMs : 0),
    meta: typeof meta === 'object' && meta !== null ? (meta as Meta) : {},
  };
}

export type RoundKeys = { readonly root: string; readonly tally: string; readonly id: string };

export function roundKeys(root: string, round: number): RoundKeys {
  const under = `${root}round/${sortableHex(BigInt(round))}/`;
  return { root: under, tally: `${under}tally`, id: `${under}id/` };
}
