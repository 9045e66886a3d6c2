/** SETTINGS (RFC 9113 section 6.5): what the peer wants, and what it is told. */
import { ConnectionError, ErrorCode } from './error.ts';
import { MAX_FRAME_BYTES, MAX_WINDOW_BYTES, readUint32 } from './frame.ts';

export const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

const SETTING_BYTES = 6;
const LARGEST_FRAME_BYTES = 2 ** 24 - 1;

/** Calls `take` with each setting in order. @throws {ConnectionError} for values that are not allowed */
export function readSettings(
  bytes: Buffer,
  start: number,
  end: number,
  take: (id: number, value: number) => void,
): void {
  if ((end - start) % SETTING_BYTES !== 0) {
    throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, 'settings have six bytes each');
  }
  for (let at = start; at < end; at += SETTING_BYTES) {
    const id = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
    const value = readUint32(bytes, at + 2);
    check(id, value);
    take(id, value);
  }
}

function check(id: number, value: number): void {
  if (id === Setting.ENABLE_PUSH && value > 1) {
    throw wrong(ErrorCode.PROTOCOL_ERROR, 'ENABLE_PUSH', value, '0 and 1');
  }
  if (id === Setting.INITIAL_WINDOW_SIZE && value > MAX_WINDOW_BYTES) {
    const allowed = `0 to ${MAX_WINDOW_BYTES}`;
    throw wrong(ErrorCode.FLOW_CONTROL_ERROR, 'INITIAL_WINDOW_SIZE', value, allowed);
  }
  const isFrameSize = value >= MAX_FRAME_BYTES && value <= LARGEST_FRAME_BYTES;
  if (id === Setting.MAX_FRAME_SIZE && !isFrameSize) {
    const allowed = `${MAX_FRAME_BYTES} to ${LARGEST_FRAME_BYTES}`;
    throw wrong(ErrorCode.PROTOCOL_ERROR, 'MAX_FRAME_SIZE', value, allowed);
  }
}

const wrong = (code: ErrorCode, name: string, value: number, allowed: string): ConnectionError =>
  new ConnectionError(code, `SETTINGS_${name} is ${value}: allowed is ${allowed}`);
