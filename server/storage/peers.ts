/** The incarnations of the other members, in a small file: `peers.json` of the data directory. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PeerBook } from '../ports.ts';
import { DataDirectoryError, IncarnationError } from './errors.ts';
import { isMissing, replaceFile } from './replace-file.ts';

const FILE = 'peers.json';
const FORMAT = 1;
const HEX_ID = /^[0-9a-f]{1,16}$/;

/** Throws `DataDirectoryError` when the file is damaged. */
export async function openPeerBook(directory: string): Promise<PeerBook> {
  const path = join(directory, FILE);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return new FilePeerBook(path, new Map());
    throw error;
  }
  return new FilePeerBook(path, parse(path, text));
}

class FilePeerBook implements PeerBook {
  readonly #path: string;
  #known: ReadonlyMap<bigint, bigint>;
  #writing: Promise<void> = Promise.resolve();

  constructor(path: string, known: ReadonlyMap<bigint, bigint>) {
    this.#path = path;
    this.#known = known;
  }

  known(member: bigint): bigint | undefined {
    return this.#known.get(member);
  }

  remember(member: bigint, incarnation: bigint): Promise<void> {
    const remembered = this.#writing.then(() => this.#remember(member, incarnation));
    this.#writing = remembered.catch(() => undefined);
    return remembered;
  }

  async #remember(member: bigint, incarnation: bigint): Promise<void> {
    const known = this.#known.get(member);
    if (known === incarnation) return;
    if (known !== undefined) throw new IncarnationError(member);
    const next = new Map(this.#known).set(member, incarnation);
    const peers = Object.fromEntries(
      [...next].map(([id, life]) => [id.toString(16), life.toString(16)]),
    );
    await replaceFile(this.#path, `${JSON.stringify({ format: FORMAT, peers }, undefined, 2)}\n`);
    this.#known = next;
  }
}

function parse(path: string, text: string): ReadonlyMap<bigint, bigint> {
  const damaged = new DataDirectoryError(
    'incomplete',
    path,
    `${path} is damaged. Restore it from a copy of this data directory, or replace this member: conclave member replace.`,
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
      path,
      `${path} has format ${format} and this version reads up to ${FORMAT}. Start the newer version that wrote it.`,
    );
  }
  const peers = fields.get('peers');
  if (typeof peers !== 'object' || peers === null) throw damaged;
  const known = new Map<bigint, bigint>();
  for (const [id, life] of Object.entries(peers)) {
    if (!HEX_ID.test(id) || typeof life !== 'string' || !HEX_ID.test(life)) throw damaged;
    known.set(BigInt(`0x${id}`), BigInt(`0x${life}`));
  }
  return known;
}
