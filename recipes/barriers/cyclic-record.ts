/** What a cyclic barrier keeps in the store, and where. */
import { ConclaveError } from '../../sdk/errors.ts';
import { isCount, parseRecord, type Stored, textOf } from '../common/json-record.ts';
import { sortableHex } from '../names.ts';
import { type Break, breakReasons } from './broken.ts';
import { type CyclicRecord, pastMax } from './cyclic.ts';

export const firstRecord = (parties: number): CyclicRecord => ({
  parties,
  generation: 1,
  broken: undefined,
  past: [],
});

/** The same record is always written alike, but what was read is kept as it was. */
export function encodeRecord({ parties, generation, broken, past, text }: CyclicRecord): string {
  if (text !== undefined) return text;
  const since = broken && { ...broken, since: undefined, sinceMs: broken.since.getTime() };
  return JSON.stringify({ v: 1, parties, generation, broken: since, past });
}

export function decodeRecord(kv: Stored): CyclicRecord | undefined {
  const { parties, generation, broken, past } = parseRecord(kv);
  if (!isCount(parties) || parties === 0 || !isCount(generation) || generation === 0) return;
  return {
    parties,
    generation,
    broken: decodeBreak(broken),
    past: Array.isArray(past) ? past.filter(isCount) : [],
    text: textOf(kv),
  };
}

/** Somebody else's, or of a later version: nothing may be concluded from it. */
export const unreadable = ({ record }: CyclicKeys): ConclaveError =>
  new ConclaveError('CODEC', `'${record}' holds no record of a cyclic barrier`, {
    outcome: 'not-applied',
  });

function decodeBreak(written: unknown): Break | undefined {
  if (typeof written !== 'object' || written === null) return undefined;
  const { reason, by, sinceMs } = written as Readonly<Record<string, unknown>>;
  return {
    reason: breakReasons.find((known) => known === reason) ?? 'unknown',
    by: typeof by === 'string' ? by : '',
    since: new Date(isCount(sinceMs) ? sinceMs : 0),
  };
}

/** The generation is complete: the next one is open. */
export const completed = ({ parties, generation, past }: CyclicRecord): CyclicRecord => ({
  parties,
  generation: generation + 1,
  broken: undefined,
  past,
});

export const brokenBy = (record: CyclicRecord, broken: Break): CyclicRecord => {
  const { text: _text, ...rest } = record;
  return { ...rest, broken };
};

/** The generation will never be complete, and the next one is open. */
export const resetOf = ({ parties, generation, past }: CyclicRecord): CyclicRecord => ({
  parties,
  generation: generation + 1,
  broken: undefined,
  past: [...past, generation].slice(-pastMax),
});

export type CyclicKeys = {
  readonly root: string;
  readonly record: string;
  /** Prefix of all folders. */
  readonly folders: string;
  folder(generation: number): string;
  /** Rewritten by each arrival: its version is their number. */
  arrivals(generation: number): string;
  seals(generation: number): string;
};

export function cyclicKeys(root: string): CyclicKeys {
  const level = (generation: number) => sortableHex(BigInt(generation));
  const folders = `${root}in/`;
  return {
    root,
    record: `${root}record`,
    folders,
    folder: (generation) => `${folders}${level(generation)}/`,
    arrivals: (generation) => `${root}arrivals/${level(generation)}`,
    seals: (generation) => `${root}seal/${level(generation)}/`,
  };
}
