/** What goes between this member and another one, counted where it passes: an addition a message. */
export interface PeerTraffic {
  /** Of messages and copies of the state, without what HTTP/2 adds. */
  sentBytes: number;
  receivedBytes: number;
  /** Messages that were dropped, as nobody was connected or too much was under way. */
  sentFailures: number;
  /** There and back, on a connection that stands. */
  roundTrip(durationMs: number): void;
}

/** The same one for the same member, however often it comes and goes. */
export type TrafficOf = (member: bigint) => PeerTraffic;

export const uncounted: TrafficOf = () => ({
  sentBytes: 0,
  receivedBytes: 0,
  sentFailures: 0,
  roundTrip: () => undefined,
});
