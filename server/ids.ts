/** Names for numbers that must not be mixed up. Member, cluster and lease ids are 64 bits: `bigint`. */
export type MemberId = bigint;
export type ClusterId = bigint;

/** The form in which people read and type ids: lower-case hexadecimal, as etcdctl prints them. */
export const idToHex = (id: bigint): string => BigInt.asUintN(64, id).toString(16);
