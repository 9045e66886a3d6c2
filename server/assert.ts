/** Thrown when an invariant of this program does not hold: a bug, never the caller's mistake. */
export class InvariantError extends Error {
  override name = 'InvariantError';
}

/** Stops the program's current path when an invariant does not hold. */
export function assert(condition: unknown, invariant: string): asserts condition {
  if (!condition) throw new InvariantError(`invariant broken: ${invariant}`);
}

/** The end of an exhaustive switch: compiles only when every case is handled. */
export function unreachable(value: never): never {
  throw new InvariantError(`unreachable case: ${JSON.stringify(value)}`);
}
