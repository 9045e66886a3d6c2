/** Member, cluster and lease ids are numbers of 64 bits: `bigint`. */

/** The form in which people read and type ids: lower-case hexadecimal, as etcdctl prints them. */
export const idToHex = (id: bigint): string => BigInt.asUintN(64, id).toString(16);
