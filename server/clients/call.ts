/** A client's id: an opaque positive 63-bit number, given to it once. */
export type ClientId = bigint;

/** What makes a write count once, however often it is proposed. */
export type ClientCall = {
  readonly id: ClientId;
  /** From 1; each call of a client has its own, and all attempts at a call share it. */
  readonly sequence: number;
  /** The client needs no answer to any call below this any more. */
  readonly floor: number;
};
