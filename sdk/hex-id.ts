/** Ids of leases, sessions, members and clusters as text: 64 bits in hexadecimal, without a sign. */

export const hexId = (id: bigint): string => BigInt.asUintN(64, id).toString(16);

/** The lease of this text, also with zeros before it; undefined for what is no such text. */
export const leaseOfHex = (text: string): bigint | undefined =>
  /^[0-9a-f]{1,16}$/.test(text) ? BigInt.asIntN(64, BigInt(`0x${text}`)) : undefined;
