/** Speaks to a member's peer URL as another member would, or as nobody should. */
import { createHash } from 'node:crypto';
import { connect } from 'node:net';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { MembersResponse, Message, SnapshotPart } from '../../../server/wire/conclave/v1/raft.ts';

const callTimeoutMs = 5_000;
const same = (bytes: Buffer): Buffer => bytes;

export type Greeting = {
  readonly protocolVersion: number;
  readonly clusterId: bigint;
  readonly from: bigint;
  readonly to: bigint;
  readonly incarnation: bigint;
};

/** How the other side ended the call. */
export type Refusal = { readonly code: number; readonly sentence: string };

const hex = (id: bigint): string => id.toString(16).padStart(16, '0');

function metadataOf(greeting: Greeting): Metadata {
  const metadata = new Metadata();
  metadata.set('conclave-protocol', `${greeting.protocolVersion}`);
  metadata.set('conclave-cluster', hex(greeting.clusterId));
  metadata.set('conclave-from', hex(greeting.from));
  metadata.set('conclave-to', hex(greeting.to));
  metadata.set('conclave-incarnation', hex(greeting.incarnation));
  metadata.set('conclave-session', hex(BigInt(process.pid)));
  metadata.set('conclave-configuration', '1');
  metadata.set('conclave-urls', 'http://127.0.0.1:1');
  return metadata;
}

export class PeerClient {
  readonly #address: string;
  readonly #client: Client;

  /** host:port of a peer URL. */
  constructor(address: string) {
    this.#address = address;
    this.#client = new Client(address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
  }

  async members(): Promise<MembersResponse> {
    const answer = await new Promise<Buffer | undefined>((resolve, reject) => {
      this.#client.makeUnaryRequest(
        '/conclave.v1.Peer/Members',
        same,
        same,
        Buffer.alloc(0),
        new Metadata(),
        this.#options(),
        (error: ServiceError | null, bytes?: Buffer) =>
          error === null ? resolve(bytes) : reject(error),
      );
    });
    return MembersResponse.decode(answer ?? Buffer.alloc(0));
  }

  /** Sends frames on a stream of messages and resolves with how it is refused. */
  async messages(greeting: Greeting, frames: readonly Uint8Array[]): Promise<Refusal> {
    return await this.#stream('/conclave.v1.Peer/Heartbeats', greeting, frames);
  }

  /** Offers a copy of the state whose chunk, or whose whole, has a wrong checksum. */
  async snapshot(
    greeting: Greeting,
    wrong: 'chunk' | 'whole',
    position: { readonly term: bigint; readonly index: bigint },
  ): Promise<Refusal> {
    const data = Buffer.from('not a copy of anything');
    const voters = [greeting.from, greeting.to].sort((a, b) => (a < b ? -1 : 1));
    const message = Message.encode(
      Message.create({
        term: position.term,
        body: {
          $case: 'snapshot',
          value: { index: position.index, indexTerm: position.term, configuration: { voters } },
        },
      }),
    ).finish();
    const sha256 = createHash('sha256')
      .update(wrong === 'whole' ? 'something else' : data)
      .digest();
    const parts: SnapshotPart[] = [
      SnapshotPart.create({
        part: {
          $case: 'begin',
          value: {
            message: Buffer.from(message),
            id: `bad-${wrong}`,
            sizeBytes: BigInt(data.length),
            sha256,
          },
        },
      }),
      SnapshotPart.create({
        part: {
          $case: 'chunk',
          value: { offset: 0n, data, crc: wrong === 'chunk' ? 1 : crc32(data) },
        },
      }),
    ];
    const frames = parts.map((part) => SnapshotPart.encode(part).finish());
    return await this.#stream('/conclave.v1.Peer/Snapshot', greeting, frames);
  }

  async #stream(path: string, greeting: Greeting, frames: readonly Uint8Array[]): Promise<Refusal> {
    return await new Promise((resolve) => {
      const metadata = metadataOf(greeting);
      const call = this.#client.makeBidiStreamRequest(path, same, same, metadata, this.#options());
      call.on('data', () => undefined);
      call.on('error', ({ code, details }: ServiceError) => resolve({ code, sentence: details }));
      call.on('end', () => resolve({ code: 0, sentence: 'accepted' }));
      for (const frame of frames) call.write(Buffer.from(frame));
      call.end();
    });
  }

  /** Bytes that are no HTTP/2 at all. Resolves when the connection is closed. */
  async garbage(bytes: Buffer): Promise<void> {
    const [host = '', port = ''] = this.#address.split(':');
    await new Promise<void>((resolve) => {
      const socket = connect({ host, port: Number(port) }, () => socket.end(bytes));
      socket.setTimeout(callTimeoutMs, () => socket.destroy());
      socket.on('error', () => resolve());
      socket.on('close', () => resolve());
      socket.resume();
    });
  }

  #options(): { deadline: number } {
    return { deadline: Date.now() + callTimeoutMs };
  }

  close(): void {
    this.#client.close();
  }
}

/** CRC-32 of ISO 3309. */
function crc32(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}
