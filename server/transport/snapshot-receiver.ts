/** Takes in a copy of the state, chunk by chunk, and tells the sender how far it is. */
import { Status, type StatusCode } from '../faults.ts';
import { NoSpaceError, SnapshotTransferError } from '../storage/errors.ts';
import type { IncomingSnapshot, SnapshotDescription } from '../storage/transfer.ts';
import { SnapshotPart, SnapshotProgress } from '../wire/conclave/v1/raft.ts';
import { decodeMessage } from './decode.ts';
import { CallError } from './grpc.ts';
import { MalformedFrame } from './protobuf.ts';
import type { ServerCall } from './server-call.ts';
import type { Hello, SnapshotMessage, TransportHandlers } from './transport.ts';

const SHA256_BYTES = 32;
const MAX_ID_LENGTH = 256;

export type SnapshotReceiverOptions = {
  readonly handlers: Pick<TransportHandlers, 'openSnapshot' | 'snapshotReceived'>;
  /** Told of every failure. */
  readonly onError: (error: unknown) => void;
};

export function receiveSnapshot(
  call: ServerCall,
  hello: Hello,
  { handlers, onError }: SnapshotReceiverOptions,
): void {
  let begun:
    | { message: SnapshotMessage; incoming: IncomingSnapshot; sizeBytes: number }
    | undefined;
  let isFinished = false;

  const progress = (offset: number, installed: boolean) => {
    call.send(SnapshotProgress.encode({ offset: BigInt(offset), installed }).finish());
  };
  const suspend = () => {
    if (begun !== undefined && !isFinished) begun.incoming.suspend().catch(onError);
  };
  const take = async (bytes: Buffer): Promise<void> => {
    const part = decodePart(bytes);
    if (part.$case === 'begin') {
      if (begun !== undefined) throw new MalformedFrame('a snapshot begins twice');
      const { message, announced } = announcementOf(part.value, hello);
      const incoming = await handlers.openSnapshot(message, announced);
      begun = { message, incoming, sizeBytes: announced.sizeBytes };
      // It may have ended while the inbox was opened.
      if (call.signal.aborted) suspend();
      else progress(incoming.offset, false);
      return;
    }
    if (begun === undefined) throw new MalformedFrame('a snapshot begins with a chunk');
    const { offset, data, crc } = part.value;
    await begun.incoming.write(Number(offset), data, crc);
    progress(begun.incoming.offset, false);
  };
  const finish = async (): Promise<void> => {
    if (begun === undefined) throw new MalformedFrame('a snapshot ends before it begins');
    const { message, incoming, sizeBytes } = begun;
    // A connection that breaks may look like an orderly end.
    if (incoming.offset < sizeBytes) {
      throw new CallError(Status.UNKNOWN, `only ${incoming.offset} of ${sizeBytes} bytes came`);
    }
    isFinished = true;
    const received = await incoming.finish();
    await handlers.snapshotReceived(message, received);
    progress(received.sizeBytes, true);
    call.end(0);
  };
  const failed = (error: unknown): Error => {
    onError(error);
    if (error instanceof CallError || error instanceof MalformedFrame) return error;
    return new CallError(statusOf(error), error instanceof Error ? error.message : String(error));
  };

  call.signal.addEventListener('abort', suspend);
  call.read(
    (bytes) =>
      take(bytes).catch((error: unknown) => {
        throw failed(error);
      }),
    () => {
      finish().catch((error: unknown) => call.fail(failed(error)));
    },
  );
}

/** A chunk may be sent again; of a copy that is wrong as a whole, or not wanted, no other try helps. */
function statusOf(error: unknown): StatusCode {
  if (error instanceof NoSpaceError) return Status.RESOURCE_EXHAUSTED;
  if (error instanceof SnapshotTransferError && finalCodes.has(error.code)) {
    return Status.FAILED_PRECONDITION;
  }
  return Status.UNKNOWN;
}

const finalCodes: ReadonlySet<SnapshotTransferError['code']> = new Set(['damaged', 'superseded']);

function decodePart(bytes: Buffer): NonNullable<SnapshotPart['part']> {
  let decoded: SnapshotPart;
  try {
    decoded = SnapshotPart.decode(bytes);
  } catch (error) {
    throw new MalformedFrame(error instanceof Error ? error.message : String(error));
  }
  if (decoded.part === undefined) throw new MalformedFrame('an unknown part of a snapshot');
  return decoded.part;
}

function announcementOf(
  begin: Extract<NonNullable<SnapshotPart['part']>, { $case: 'begin' }>['value'],
  hello: Hello,
): { message: SnapshotMessage; announced: SnapshotDescription } {
  const message = decodeMessage(begin.message, hello.from, hello.to);
  const sizeBytes = Number(begin.sizeBytes);
  if (message.kind !== 'snapshot') throw new MalformedFrame('a snapshot begins with no snapshot');
  if (!Number.isSafeInteger(sizeBytes) || begin.sha256.length !== SHA256_BYTES) {
    throw new MalformedFrame('a snapshot has no size or no checksum');
  }
  if (begin.id === '' || begin.id.length > MAX_ID_LENGTH) {
    throw new MalformedFrame('a snapshot has no name');
  }
  return {
    message,
    announced: {
      id: begin.id,
      index: message.index,
      term: message.indexTerm,
      sizeBytes,
      sha256: begin.sha256,
    },
  };
}
