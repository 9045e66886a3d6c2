/** Every way in which storage refuses. Match on `code`; the message is a sentence for people. */

import { idToHex } from '../ids.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { LogPosition } from '../ports.ts';

const REPLACE_MEMBER =
  'In a cluster, remove this member and add it again with an empty data directory; a single member is restored from a backup.';

/** Bytes on disk are not what was written. Never repaired by guessing and never served. */
export class CorruptionError extends Error {
  override name = 'CorruptionError';
  readonly code = 'corruption';
  readonly file: string;
  /** Byte offset in `file`; undefined when the damage has no single place. */
  readonly offset: number | undefined;

  constructor(file: string, offset: number | undefined, damage: string) {
    const place = offset === undefined ? file : `${file} at byte ${offset}`;
    super(`${place}: ${damage}. Stored data is damaged. ${REPLACE_MEMBER}`);
    this.file = file;
    this.offset = offset;
  }
}

/**
 * One stored value does not match its checksum. The rest of the store is as good as before: who asked
 * for this value is refused, and writing its key anew mends it.
 */
export class DamagedValueError extends CorruptionError {
  override name = 'DamagedValueError';
  readonly key: Bytes;

  constructor(file: string, key: Bytes) {
    const name = Buffer.from(key.subarray(0, 64)).toString('hex');
    super(file, undefined, `the value of key 0x${name} has a wrong checksum`);
    this.key = key;
  }
}

/** The log no longer holds the entries that were asked for. */
export class LogReleasedError extends Error {
  override name = 'LogReleasedError';
  readonly code = 'log-released';

  constructor(from: number, firstIndex: number) {
    super(`Cannot read log entry ${from}: the log was released up to ${firstIndex - 1}`);
  }
}

/** Too little room on the disk to write safely. Nothing was written; try again when there is room. */
export class NoSpaceError extends Error {
  override name = 'NoSpaceError';
  readonly code = 'no-space';

  constructor(path: string, freeBytes: number, requiredBytes: number) {
    super(
      `Cannot write to ${path}: ${freeBytes} bytes are free and at least ${requiredBytes} are required. Free some space on this disk; writing resumes by itself.`,
    );
  }
}

/** Does the system say that the disk is full? */
export const isNoSpace = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');

/** A write did not reach the disk. The storage accepts nothing more; the process must end at once. */
export class StorageFailedError extends Error {
  override name = 'StorageFailedError';
  readonly code = 'storage-failed';

  constructor(path: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`Writing to ${path} failed: ${reason}. Nothing is acknowledged from here on.`, { cause });
  }
}

export type SnapshotTransferCode =
  /** A chunk does not match its checksum. */
  | 'damaged-chunk'
  /** The whole does not match its hash, or does not hold what was announced. */
  | 'damaged'
  /** A chunk that does not follow, is too long, or goes beyond the announced end. */
  | 'unexpected-chunk'
  /** Finished before everything was there. */
  | 'incomplete'
  /** Another transfer has taken its place, or it was ended. */
  | 'superseded';

/** What a member sends of its state cannot be used. Nothing was installed. */
export class SnapshotTransferError extends Error {
  override name = 'SnapshotTransferError';
  readonly code: SnapshotTransferCode;

  constructor(code: SnapshotTransferCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** A copy that is whole and holds another state than its sender said. */
export const otherContents = (announced: LogPosition, found: LogPosition): SnapshotTransferError =>
  new SnapshotTransferError(
    'damaged',
    `A copy of the state was announced as that of entry ${announced.index} of term ${announced.term} and is that of entry ${found.index} of term ${found.term}. Nothing was installed and the leader sends another one; if this goes on, upgrade the leader to the version of this member.`,
  );

/** A member that is known came back with another data directory. */
export class IncarnationError extends Error {
  override name = 'IncarnationError';
  readonly code = 'other-incarnation';

  constructor(member: bigint) {
    super(
      `Member ${idToHex(member)} came with another data directory than before: what it had promised is lost. Replace it by a new member: conclave member replace.`,
    );
  }
}

export type DataDirectoryCode =
  | 'in-use'
  | 'not-a-directory'
  | 'not-writable'
  | 'not-empty'
  | 'unsafe-permissions'
  | 'etcd-data'
  | 'incomplete'
  | 'other-identity'
  | 'newer-format'
  | 'older-format'
  | 'mismatch';

/** A directory that cannot serve as this member's data directory, and what to do about it. */
export class DataDirectoryError extends Error {
  override name = 'DataDirectoryError';
  readonly code: DataDirectoryCode;
  readonly path: string;

  constructor(code: DataDirectoryCode, path: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.path = path;
  }
}

/** Another process owns the directory now. */
export class DataDirectoryInUse extends DataDirectoryError {
  override name = 'DataDirectoryInUse';

  constructor(path: string) {
    super(
      'in-use',
      path,
      `The data directory ${path} is in use by another process. Stop that process, or choose another directory.`,
    );
  }
}
