/** Transfers of states in memory, and the book of peers, for tests and the simulator. */
import { createHash } from 'node:crypto';
import type { PeerBook, StateReader } from '../ports.ts';
import type { Configuration } from '../raft/configuration.ts';
import { IncarnationError } from './errors.ts';
import { checkChunk, checkWhole, incomplete, superseded } from './incoming.ts';
import type { DurabilitySchedule, MemoryState } from './memory.ts';
import {
  type IncomingSnapshot,
  type OutgoingSnapshot,
  type ReceivedSnapshot,
  SNAPSHOT_CHUNK_BYTES,
  type SnapshotDescription,
  type SnapshotInbox,
  type SnapshotOutbox,
} from './transfer.ts';

/** Keeps the newest copy, which costs no more than the one that is being sent. */
export class MemoryOutbox implements SnapshotOutbox {
  readonly #state: MemoryState;
  readonly #configurationOf: (state: StateReader) => Configuration;
  #copy: OutgoingSnapshot | undefined;

  constructor(state: MemoryState, configurationOf: (state: StateReader) => Configuration) {
    this.#state = state;
    this.#configurationOf = configurationOf;
  }

  async take(minIndex: number): Promise<OutgoingSnapshot> {
    if (this.#copy === undefined || this.#copy.index < minIndex) this.#copy = this.#make();
    return this.#copy;
  }

  #make(): OutgoingSnapshot {
    const bytes = Buffer.from(this.#state.copy());
    const sha256 = createHash('sha256').update(bytes).digest();
    return {
      ...this.#state.applied,
      id: sha256.toString('hex'),
      sizeBytes: bytes.length,
      sha256,
      configuration: this.#configurationOf(this.#state),
      chunk: async (offset) => bytes.subarray(offset, offset + SNAPSHOT_CHUNK_BYTES),
      release: () => {},
    };
  }

  async close(): Promise<void> {}
}

type Partial = { readonly announced: SnapshotDescription; bytes: Buffer };

/** What was received survives a crash of the member, as a file does. */
export class MemoryInbox implements SnapshotInbox {
  #partial: Partial | undefined;
  #writer: symbol | undefined;

  async open(announced: SnapshotDescription): Promise<IncomingSnapshot> {
    if (this.#partial?.announced.id !== announced.id) {
      this.#partial = { announced, bytes: Buffer.alloc(0) };
    }
    const partial = this.#partial;
    const writer = Symbol();
    this.#writer = writer;
    const check = (): void => {
      if (this.#writer !== writer) throw superseded(announced);
    };
    return {
      get offset() {
        return partial.bytes.length;
      },
      write: async (offset, bytes, checksum) => {
        check();
        checkChunk(announced, partial.bytes.length, { offset, bytes, checksum });
        partial.bytes = Buffer.concat([partial.bytes.subarray(0, offset), bytes]);
      },
      finish: async () => {
        check();
        if (partial.bytes.length < announced.sizeBytes) {
          throw incomplete(announced, partial.bytes.length);
        }
        this.#partial = undefined;
        this.#writer = undefined;
        checkWhole(announced, createHash('sha256').update(partial.bytes).digest());
        return received(announced, partial.bytes);
      },
      suspend: async () => {
        if (this.#writer === writer) this.#writer = undefined;
      },
    };
  }

  async close(): Promise<void> {
    this.#writer = undefined;
  }
}

const received = (announced: SnapshotDescription, bytes: Uint8Array): ReceivedSnapshot => ({
  index: announced.index,
  term: announced.term,
  sizeBytes: announced.sizeBytes,
  content: { kind: 'memory', bytes },
  discard: async () => {},
});

export class MemoryPeerBook implements PeerBook {
  readonly #schedule: DurabilitySchedule;
  readonly #known = new Map<bigint, bigint>();
  #life = 0;

  constructor(options: { readonly schedule?: DurabilitySchedule } = {}) {
    this.#schedule = options.schedule ?? queueMicrotask;
  }

  known(member: bigint): bigint | undefined {
    return this.#known.get(member);
  }

  async remember(member: bigint, incarnation: bigint): Promise<void> {
    const life = this.#life;
    if (!this.#known.has(member)) {
      await new Promise<void>((resolve) => {
        this.#schedule(() => {
          if (life === this.#life) resolve();
        });
      });
    }
    const known = this.#known.get(member);
    if (known !== undefined && known !== incarnation) throw new IncarnationError(member);
    this.#known.set(member, incarnation);
  }

  /** Loses power: what was not durable is not remembered. */
  crash(): void {
    this.#life += 1;
  }
}
