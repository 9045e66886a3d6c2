/** What a double barrier keeps in the store, and where. */
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import { op } from '../../sdk/txn.ts';
import { isCount, parseRecord, type Stored, textOf } from '../common/json-record.ts';
import { sortableHex } from '../names.ts';
import type { EntryView, ExitView, Party, Ready } from './double.ts';
import { directMusterMax, type Mustered } from './muster.ts';

export type Terms = {
  readonly parties: number;
  /** The generation that forms. Rises by one with each that is complete; the first is 1. */
  readonly generation: number;
  /** As they are written, if they have been read: conditions compare the text. */
  readonly text?: string;
};

/** The same terms are always written alike. */
export const encodeTerms = ({ parties, generation, text }: Terms): string =>
  text ?? JSON.stringify({ v: 1, parties, generation });

export function decodeTerms(kv: Stored): Terms | undefined {
  const { parties, generation } = parseRecord(kv);
  if (!isCount(parties) || parties === 0 || !isCount(generation) || generation === 0) return;
  return { parties, generation, text: textOf(kv) };
}

/** Somebody else's, or of a later version: nothing may be concluded from it. */
export const unreadableTerms = (key: string): ConclaveError =>
  new ConclaveError('CODEC', `'${key}' holds no terms of a double barrier`, {
    outcome: 'not-applied',
  });

export const partiesDiffer = (what: string, theirs: number, ours: number): ConclaveError =>
  new ConclaveError('MISMATCH', `${what} takes ${theirs} parties, not ${ours}`, {
    remedy:
      'Give all clients the same number, or let one forget the barrier while nobody is there.',
  });

export const encodeReady = (through: bigint, sinceMs: number): string =>
  JSON.stringify({ v: 1, through: `${through}`, sinceMs });

export type ReadyRecord = Ready & { readonly since: Date };

export function decodeReady(kv: KeyValue | null | undefined): ReadyRecord | undefined {
  if (!kv) return undefined;
  const { through, sinceMs } = parseRecord(kv);
  if (typeof through !== 'string' || !/^\d+$/.test(through)) return undefined;
  const since = new Date(isCount(sinceMs) ? sinceMs : 0);
  return { through: BigInt(through), revision: kv.modRevision, since };
}

/** What the oldest party writes into its key once it is alone. */
export const allLeftRecord: string = JSON.stringify({ v: 1, over: true });

export const saysAllLeft = (kv: Stored): boolean => parseRecord(kv)['over'] === true;

export type DoubleKeys = {
  readonly root: string;
  readonly terms: string;
  /** Prefix of all folders. */
  readonly folders: string;
  /** Prefix of the marks of complete generations. */
  readonly marks: string;
  folder(generation: number): string;
  ready(generation: number): string;
  seals(generation: number): string;
};

export function doubleKeys(root: string): DoubleKeys {
  const level = (generation: number) => sortableHex(BigInt(generation));
  const folders = `${root}in/`;
  const marks = `${root}ready/`;
  return {
    root,
    terms: `${root}terms`,
    folders,
    marks,
    folder: (generation) => `${folders}${level(generation)}/`,
    ready: (generation) => `${marks}${level(generation)}`,
    seals: (generation) => `${root}seal/${level(generation)}/`,
  };
}

/** Who is in a folder: the parties that would be counted, or only how many there are. */
export const folderListing = (folder: string, parties: number) =>
  op.list(
    { prefix: folder },
    parties <= directMusterMax
      ? { order: 'create', limit: parties, keysOnly: true }
      : { limit: 1, keysOnly: true },
  );

/** The folder of a generation as one read shows it. */
export type FolderView = EntryView & {
  /** The oldest parties, as far as they were listed. */
  readonly counted: readonly Mustered[];
  readonly terms: Terms | undefined;
};

export function readFolder(
  revision: bigint,
  [self, terms, ready, listed]: readonly unknown[],
): FolderView {
  const stored = decodeTerms(terms as Stored);
  const { kvs, count } = listed as ListResult;
  return {
    revision,
    own: (self as KeyValue | null)?.createRevision,
    forming: stored?.generation,
    ready: decodeReady(ready as KeyValue | null),
    present: Number(count),
    counted: kvs,
    terms: stored,
  };
}

/** The oldest and the newest party up to a create revision. */
export const ends = (folder: string, through: bigint) =>
  [
    op.list({ prefix: folder }, { order: 'create', limit: 1, maxCreateRevision: through }),
    op.list(
      { prefix: folder },
      { order: 'create', descending: true, limit: 1, maxCreateRevision: through, keysOnly: true },
    ),
  ] as const;

export function readEnds(revision: bigint, [self, oldest, newest]: readonly unknown[]): ExitView {
  const party = (listed: unknown): Party | undefined => {
    const kv = (listed as ListResult).kvs[0];
    return kv && { key: kv.key, createRevision: kv.createRevision, over: saysAllLeft(kv) };
  };
  return {
    revision,
    own: (self as KeyValue | null)?.createRevision,
    oldest: party(oldest),
    newest: party(newest),
  };
}
