import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Command } from 'commander';
import type { CommonOptions } from '../../connection.ts';
import { CliError } from '../../failure.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { note } from '../../stderr.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';

const view: View = {
  columns: [field('FILE', 'file'), field('BYTES', 'sizeBytes'), field('SHA-256', 'sha256')],
};

const CHECKSUM_BYTES = 32;
const PROGRESS_MS = 10_000;

/** Writes all and returns the checksum over everything but the checksum at the end. */
async function copy(
  source: AsyncIterable<Uint8Array>,
  file: FileHandle,
): Promise<{ sizeBytes: number; sha256: string; intact: boolean }> {
  const hash = createHash('sha256');
  let tail = Buffer.alloc(0);
  let sizeBytes = 0;
  let reportedMs = performance.now();
  for await (const chunk of source) {
    await file.writeFile(chunk);
    sizeBytes += chunk.length;
    tail = Buffer.concat([tail, chunk]);
    const complete = tail.length - CHECKSUM_BYTES;
    if (complete > 0) {
      hash.update(tail.subarray(0, complete));
      tail = tail.subarray(complete);
    }
    if (performance.now() - reportedMs >= PROGRESS_MS) {
      reportedMs = performance.now();
      note(`${sizeBytes} bytes so far`);
    }
  }
  const sha256 = hash.digest('hex');
  return { sizeBytes, sha256, intact: tail.toString('hex') === sha256 };
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** The file appears under its name only when it is whole and on the disk. */
async function save(path: string, options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  const partial = `${path}.part`;
  await withClient(options, async ({ cluster }) => {
    const file = await open(partial, 'w', 0o600);
    try {
      const { sizeBytes, sha256, intact } = await copy(cluster.snapshot(), file);
      if (!intact) {
        throw new CliError(
          'the snapshot arrived damaged: its checksum does not match',
          1,
          'Try again, or another member.',
        );
      }
      await file.sync();
      await file.close();
      await rename(partial, path);
      await syncDirectory(dirname(path));
      await output.printOne({ file: path, sizeBytes: `${sizeBytes}`, sha256 }, view);
    } catch (error) {
      await file.close().catch(() => undefined);
      await rm(partial, { force: true });
      throw error;
    }
  });
}

export function define(command: Command): void {
  asVerb(command, [
    ['conclave snapshot save backup.db', 'a copy of the whole store, checked as it arrives'],
  ])
    .argument('<file>', 'where to write it')
    .action(save);
}
