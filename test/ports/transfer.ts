/** What every outbox and inbox must do, together. Run against each pair by `transfer.test.ts`. */
import * as fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { State } from '../../server/ports.ts';
import type { Configuration } from '../../server/raft/configuration.ts';
import {
  chunkChecksum,
  type IncomingSnapshot,
  type OutgoingSnapshot,
  SNAPSHOT_CHUNK_BYTES,
  type SnapshotInbox,
  type SnapshotOutbox,
} from '../../server/storage/transfer.ts';

export type TransferUnderTest = {
  /** What is copied. */
  readonly state: State;
  readonly outbox: SnapshotOutbox;
  inbox: SnapshotInbox;
  /** Where it goes. */
  readonly receiver: State;
  /** Kills the receiver and starts it again. */
  restartInbox(): Promise<void>;
  dispose(): Promise<void>;
};

/** Of a state: one voter, whose id is stored under `voter`. */
export function configurationOf(state: Pick<State, 'get'>): Configuration {
  const voter = state.get(Buffer.from('voter'));
  const voters = voter === undefined ? [] : [BigInt(Buffer.from(voter).toString())];
  return { voters, outgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

const ROWS = 40;

/** Every apply writes its index to all keys; some values are large, so that there are several chunks. */
function fill(state: State, index: number): void {
  const keys = Array.from({ length: ROWS }, (_, number) => Buffer.from(`key-${number}`));
  const writes = keys.map((key, number) => {
    const value = Buffer.alloc(number % 2 === 0 ? 10 : 40_000, String(index));
    return { kind: 'put', key, value } as const;
  });
  const voter = { kind: 'put', key: Buffer.from('voter'), value: Buffer.from('7') } as const;
  state.apply(index, [...writes, voter], 3);
}

const contentsOf = (state: State): string[] =>
  state
    .scan(Buffer.alloc(0), undefined, { limit: 1_000 })
    .map(([key, value]) => `${Buffer.from(key)}=${Buffer.from(value).toString('latin1')}`);

/** Sends chunks until `end` bytes have arrived. */
async function send(
  source: OutgoingSnapshot,
  target: IncomingSnapshot,
  end = source.sizeBytes,
): Promise<void> {
  while (target.offset < end) {
    const bytes = await source.chunk(target.offset);
    await target.write(target.offset, bytes, chunkChecksum(bytes));
  }
}

async function allBytes(source: OutgoingSnapshot): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for (let offset = 0; offset < source.sizeBytes; ) {
    const chunk = await source.chunk(offset);
    chunks.push(chunk);
    offset += chunk.length;
  }
  return Buffer.concat(chunks);
}

export function describeTransfer(
  name: string,
  open: () => Promise<TransferUnderTest>,
  options: { readonly runs: number },
): void {
  describe(name, () => {
    let current: TransferUnderTest;
    beforeEach(async () => {
      current = await open();
      fill(current.state, 5);
    });
    afterEach(() => current.dispose());

    test('carries the whole state, its position and its configuration', async () => {
      const source = await current.outbox.take(5);
      expect(source).toMatchObject({ index: 5, term: 3 });
      expect(source.configuration.voters).toEqual([7n]);
      expect(source.sizeBytes).toBeGreaterThan(2 * SNAPSHOT_CHUNK_BYTES);
      expect(await source.chunk(source.sizeBytes)).toHaveLength(0);
      const target = await current.inbox.open(source);
      expect(target.offset).toBe(0);
      await send(source, target);
      source.release();
      const received = await target.finish();
      expect(received).toMatchObject({ index: 5, term: 3, sizeBytes: source.sizeBytes });
      await current.receiver.install(received);
      expect(current.receiver.applied).toEqual({ index: 5, term: 3 });
      expect(contentsOf(current.receiver)).toEqual(contentsOf(current.state));
      await received.discard();
      expect(contentsOf(current.receiver)).toHaveLength(ROWS + 1);
    });

    test('goes on where it broke off, also after restarts of the receiver', async () => {
      const source = await current.outbox.take(5);
      const whole = await allBytes(source);
      const stepArbitrary = fc.oneof(
        fc.record({
          kind: fc.constant('chunk' as const),
          back: fc.oneof(fc.constant(0), fc.nat({ max: 100_000 })),
          bytes: fc.integer({ min: 1, max: SNAPSHOT_CHUNK_BYTES }),
        }),
        fc.record({ kind: fc.constantFrom('break' as const, 'restart' as const) }),
      );
      await fc.assert(
        fc.asyncProperty(fc.array(stepArbitrary, { maxLength: 12 }), async (steps) => {
          let target = await current.inbox.open(source);
          for (const step of steps) {
            const { offset } = target;
            if (step.kind === 'chunk') {
              const start = Math.max(0, offset - step.back);
              const bytes = whole.subarray(start, start + step.bytes);
              await target.write(start, bytes, chunkChecksum(bytes));
              continue;
            }
            if (step.kind === 'restart') await current.restartInbox();
            else await target.suspend();
            target = await current.inbox.open(source);
            expect(target.offset).toBeGreaterThanOrEqual(offset);
          }
          await send(source, target);
          await (await target.finish()).discard();
        }),
        { numRuns: options.runs },
      );
      source.release();
    });

    test('is a copy of one moment, whatever is written meanwhile', async () => {
      const taken = current.outbox.take(5);
      let isTaken = false;
      void taken.finally(() => {
        isTaken = true;
      });
      let index = 5;
      do {
        index += 1;
        fill(current.state, index);
        if (index % 8 === 0) await current.state.flush();
        await new Promise((resolve) => setImmediate(resolve));
      } while (!isTaken);
      const source = await taken;
      const target = await current.inbox.open(source);
      await send(source, target);
      source.release();
      await current.receiver.install(await target.finish());
      const { receiver } = current;
      expect(receiver.applied).toEqual({ index: source.index, term: 3 });
      for (let number = 0; number < ROWS; number++) {
        const value = Buffer.from(receiver.get(Buffer.from(`key-${number}`)) ?? []).toString();
        expect(value.startsWith(String(source.index).slice(0, 10))).toBe(true);
      }
    });

    test('is shared by receivers that it is new enough for', async () => {
      const first = await current.outbox.take(5);
      fill(current.state, 6);
      const second = await current.outbox.take(4);
      expect(second.id).toBe(first.id);
      const newer = await current.outbox.take(6);
      expect(newer.id).not.toBe(first.id);
      expect(newer.index).toBe(6);
      first.release();
      first.release();
      expect(await second.chunk(0)).toHaveLength(SNAPSHOT_CHUNK_BYTES);
      second.release();
      newer.release();
    });

    describe('refuses', () => {
      test('a damaged chunk, and takes the same one whole', async () => {
        const source = await current.outbox.take(5);
        const target = await current.inbox.open(source);
        const bytes = await source.chunk(0);
        const damaged = Buffer.from(bytes);
        damaged[100] = (damaged[100] ?? 0) ^ 1;
        await expect(target.write(0, damaged, chunkChecksum(bytes))).rejects.toMatchObject({
          name: 'SnapshotTransferError',
          code: 'damaged-chunk',
          message: expect.stringMatching(/the chunk at 0 has a wrong checksum.*check the network/),
        });
        expect(target.offset).toBe(0);
        await send(source, target);
        await (await target.finish()).discard();
      });

      test('chunks that do not follow, are too long or go beyond the end', async () => {
        const source = await current.outbox.take(5);
        const whole = await allBytes(source);
        const target = await current.inbox.open(source);
        const refused = async (offset: number, bytes: Buffer): Promise<void> => {
          await expect(target.write(offset, bytes, chunkChecksum(bytes))).rejects.toMatchObject({
            code: 'unexpected-chunk',
          });
        };
        await refused(1, whole.subarray(1, 10));
        await refused(0, whole.subarray(0, SNAPSHOT_CHUNK_BYTES + 1));
        await send(source, target);
        await refused(source.sizeBytes - 1, Buffer.alloc(2));
        expect(target.offset).toBe(source.sizeBytes);
        await (await target.finish()).discard();
      });

      test('a whole with a wrong hash, and begins anew', async () => {
        const source = await current.outbox.take(5);
        const target = await current.inbox.open(source);
        await send(source, target);
        // Undetected on the way: a chunk whose checksum was computed after the damage.
        const bytes = Buffer.from(await source.chunk(0));
        bytes[100] = (bytes[100] ?? 0) ^ 1;
        const rest = await allBytes(source);
        await target.write(0, bytes, chunkChecksum(bytes));
        while (target.offset < source.sizeBytes) {
          const next = rest.subarray(target.offset, target.offset + SNAPSHOT_CHUNK_BYTES);
          await target.write(target.offset, next, chunkChecksum(next));
        }
        await expect(target.finish()).rejects.toMatchObject({
          code: 'damaged',
          message: expect.stringMatching(/nothing was installed, and the leader sends another/),
        });
        expect((await current.inbox.open(source)).offset).toBe(0);
      });

      test('to finish early, and goes on', async () => {
        const source = await current.outbox.take(5);
        const target = await current.inbox.open(source);
        await send(source, target, 1);
        await expect(target.finish()).rejects.toMatchObject({ code: 'incomplete' });
        await send(source, target);
        await (await target.finish()).discard();
      });

      test('whoever writes to a transfer that another one has replaced', async () => {
        const older = await current.outbox.take(5);
        const first = await current.inbox.open(older);
        await send(older, first, 1);
        const again = await current.inbox.open(older);
        expect(again.offset).toBe(first.offset);
        await expect(send(older, first)).rejects.toMatchObject({ code: 'superseded' });
        fill(current.state, 6);
        const newer = await current.outbox.take(6);
        const second = await current.inbox.open(newer);
        await expect(send(older, again)).rejects.toMatchObject({ code: 'superseded' });
        await expect(again.finish()).rejects.toMatchObject({ code: 'superseded' });
        await again.suspend();
        await send(newer, second);
        await (await second.finish()).discard();
        expect((await current.inbox.open(older)).offset).toBe(0);
      });
    });

    test('one copy that comes twice is received twice', async () => {
      const source = await current.outbox.take(5);
      const received = [];
      for (const _ of ['once', 'again']) {
        const target = await current.inbox.open(source);
        expect(target.offset).toBe(0);
        await send(source, target);
        received.push(await target.finish());
      }
      for (const snapshot of received) await current.receiver.install(snapshot);
      expect(contentsOf(current.receiver)).toHaveLength(ROWS + 1);
    });

    test('two in quick succession can both be installed, and either discarded', async () => {
      const received = [];
      for (const index of [5, 6, 7]) {
        if (index > 5) fill(current.state, index);
        const source = await current.outbox.take(index);
        const target = await current.inbox.open(source);
        await send(source, target);
        source.release();
        received.push(await target.finish());
      }
      const [first, second, third] = received;
      if (first === undefined || second === undefined || third === undefined) throw new Error();
      await current.receiver.install(first);
      await second.discard();
      await current.receiver.install(third);
      expect(current.receiver.appliedIndex).toBe(7);
      expect(contentsOf(current.receiver)).toEqual(contentsOf(current.state));
    });
  });
}
