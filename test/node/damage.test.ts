import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { startMember } from '../../server/index.ts';
import { connectWire } from '../support/wire-client.ts';

const MARK = 'the-value-that-gets-damaged';

test('a damaged value is refused, the rest is served, and writing it anew mends it', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'damage-'));
  const bytes = (text: string) => Buffer.from(text);
  try {
    const before = await startMember({ directory });
    const writer = connectWire(before.endpoints[0] ?? '');
    for (const [key, value] of [
      ['a', 'sound'],
      ['b', MARK],
      ['c', 'sound'],
    ] as const) {
      await writer.kv.put({ key: bytes(key), value: bytes(value) });
    }
    writer.close();
    await before.close();

    const file = join(directory, 'state', 'data.mdb');
    const contents = await readFile(file);
    let flipped = 0;
    for (let at = contents.indexOf(MARK); at !== -1; at = contents.indexOf(MARK, at + 1)) {
      contents[at + 3] = (contents[at + 3] ?? 0) ^ 1;
      flipped += 1;
    }
    expect(flipped).toBeGreaterThan(0);
    await writeFile(file, contents);

    const after = await startMember({ directory });
    const client = connectWire(after.endpoints[0] ?? '');
    const refused = { code: status.DATA_LOSS, details: 'etcdserver: corrupt cluster' };
    await expect(client.kv.range({ key: bytes('b') })).rejects.toMatchObject(refused);
    await expect(client.kv.range({ key: bytes('a'), rangeEnd: bytes('z') })).rejects.toMatchObject(
      refused,
    );
    const { kvs } = await client.kv.range({ key: bytes('a') });
    expect(kvs[0]?.value.toString()).toBe('sound');

    await client.kv.put({ key: bytes('b'), value: bytes('mended') });
    const all = await client.kv.range({ key: bytes('a'), rangeEnd: bytes('z') });
    expect(all.kvs.map(({ value }) => value.toString())).toEqual(['sound', 'mended', 'sound']);
    client.close();
    await after.close();
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
