/** Whose data directory this is: a small file, replaced as a whole or not at all. */
import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataDirectoryError } from './errors.ts';
import { isMissing, replaceFile } from './replace-file.ts';

export type Identity = {
  readonly name: string;
  readonly clusterId: bigint;
  readonly memberId: bigint;
};

/**
 * With what no other directory has, not even the same member's after this one was lost: a member that
 * comes back with another incarnation has forgotten its vote and its log.
 */
export type StoredIdentity = Identity & { readonly incarnation: bigint };

/** What a directory says of itself; `incarnation` undefined: it was written before there were any. */
export type FoundIdentity = Identity & {
  readonly incarnation: bigint | undefined;
  /** Set once the member was removed from its cluster, for good: the sentence that it ended with. */
  readonly removed: string | undefined;
};

const FILE = 'identity.json';
/** Format of the directory as a whole: what is where. */
const FORMAT = 1;

const HEX_ID = /^[0-9a-f]{1,16}$/;

/** A positive 63-bit number that was never drawn before. */
export const drawIncarnation = (): bigint =>
  BigInt.asUintN(63, randomBytes(8).readBigUInt64LE()) || 1n;

/** undefined: the directory has none, or does not exist. Throws `DataDirectoryError`. */
export async function readIdentity(directory: string): Promise<FoundIdentity | undefined> {
  const path = join(directory, FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw new DataDirectoryError('not-writable', path, `Cannot read ${path}: ${messageOf(error)}`);
  }
  const damaged = new DataDirectoryError(
    'incomplete',
    path,
    `${path} is damaged. Restore it from a copy of this data directory; do not start with another one.`,
  );
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw damaged;
  }
  if (typeof content !== 'object' || content === null) throw damaged;
  const fields = new Map<string, unknown>(Object.entries(content));
  const format = fields.get('format');
  if (typeof format !== 'number') throw damaged;
  if (format > FORMAT) {
    throw new DataDirectoryError(
      'newer-format',
      directory,
      `The data directory ${directory} has format ${format} and this version reads up to ${FORMAT}. Start the newer version that wrote it.`,
    );
  }
  const name = fields.get('name');
  const clusterId = idOf(fields.get('clusterId'));
  const memberId = idOf(fields.get('memberId'));
  if (typeof name !== 'string' || clusterId === undefined || memberId === undefined) throw damaged;
  const incarnation = fields.get('incarnation');
  if (incarnation !== undefined && idOf(incarnation) === undefined) throw damaged;
  const removed = fields.get('removed');
  if (removed !== undefined && typeof removed !== 'string') throw damaged;
  return { name, clusterId, memberId, incarnation: idOf(incarnation), removed };
}

function idOf(value: unknown): bigint | undefined {
  return typeof value === 'string' && HEX_ID.test(value) ? BigInt(`0x${value}`) : undefined;
}

/** Durable when it resolves. */
export async function writeIdentity(
  directory: string,
  identity: StoredIdentity & { readonly removed?: string },
): Promise<void> {
  const content = {
    format: FORMAT,
    name: identity.name,
    clusterId: identity.clusterId.toString(16),
    memberId: identity.memberId.toString(16),
    incarnation: identity.incarnation.toString(16),
    removed: identity.removed,
  };
  await replaceFile(join(directory, FILE), `${JSON.stringify(content, undefined, 2)}\n`);
}

/**
 * Keeps a member that was removed from being started again: the others may not be there to refuse it.
 * To be called by the owner of the directory. Durable when it resolves.
 */
export async function recordRemoval(
  directory: string,
  identity: StoredIdentity,
  sentence: string,
): Promise<void> {
  await writeIdentity(directory, { ...identity, removed: sentence });
}

const messageOf = (error: unknown): string =>
  error instanceof Error ? error.message : String(error);
