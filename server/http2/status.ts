/** How a call ended, as gRPC writes it. */

export type GrpcStatus = {
  readonly code: number;
  readonly details: string;
  /** The value of `grpc-accept-encoding`, for one who did not know. */
  readonly accepts?: string;
};

export const StatusCode = {
  OK: 0,
  DEADLINE_EXCEEDED: 4,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
} as const;

export const OK: GrpcStatus = { code: StatusCode.OK, details: '' };

/** Longer texts are cut: with every byte as three they still fit into one frame. */
const DETAILS_BYTES = 4_096;
const PLAIN = /^[\x20-\x24\x26-\x7e]*$/;

/** A text as the value of `grpc-message`: percent-encoded UTF-8. */
export function encodeDetails(details: string): string {
  if (details.length <= DETAILS_BYTES && PLAIN.test(details)) return details;
  let text = '';
  for (const byte of Buffer.from(details, 'utf8').subarray(0, DETAILS_BYTES)) {
    const isPlain = byte >= 0x20 && byte <= 0x7e && byte !== 0x25;
    text += isPlain
      ? String.fromCharCode(byte)
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return text;
}
