/** A promise was broken. */

/** The invariants, by the numbers of the test programme, and what else can go wrong in a run. */
export const invariants = {
  1: 'one leader per term',
  2: 'log matching',
  3: 'leader completeness',
  4: 'one command and one result per index',
  5: 'term, vote and commit survive, and the vote is durable before it leaves',
  6: 'what is acknowledged is on the disks of a quorum',
  7: 'applied <= commit <= last, without a gap',
  8: 'configurations form a chain whose quorums intersect',
  9: 'a linearizable read sees every write acknowledged before it began',
  10: 'revisions and versions follow the model',
  11: 'equal revision, equal hash',
  12: 'compaction changes nothing above it',
  13: 'a renewed lease is not lost, and expires only through the log',
  14: 'tokens rise, and a fenced resource takes no lower one',
  15: 'a watch gets every event once, in order, whole revisions at a time',
  16: 'no acknowledged item is lost',
  17: 'leaders are seen in order, and barriers hold',
  18: 'every applied operation was allowed',
  19: 'queues, logs and buffers stay bounded',
  20: 'the same seed gives the same trace',
  21: 'a healed quorum elects, commits and answers everybody',
  22: 'no assertion of the shipped code fails',
  23: 'what is proposed takes effect at most once, and never after a certain refusal',
  24: 'at no revision do two hold what excludes each other, and nobody is overtaken',
  25: 'whoever left leaves nothing in line',
  26: 'what is guarded is written by who holds',
  27: 'of several locks an attempt has all or none',
  28: 'no window has more permits than the rate and the burst allow',
  29: 'each addition counts exactly once',
  30: 'no id is given twice',
  31: 'a shared value loses no change',
  32: 'every job is in one place, and what is reserved names who has it',
  33: 'what is in a queue is worked off',
  34: 'every slot of a schedule is run once',
  35: 'a lock that is taken back was held by nobody else in between',
  36: 'a lock-delay keeps others out for as long as it says',
  40: 'an election by priority has one leader a term, made by nobody who may not',
  41: 'what a leader writes under its guard it writes in its term',
  42: 'the leadership goes to whom it was handed to, without a gap',
  43: 'migrations run in their order, what they write is written once, and what is done stays done',
  45: 'whoever passes a barrier saw it down',
  46: 'a generation of a double barrier is exactly its parties, who enter and leave together',
  47: 'a generation of a cyclic barrier ends once, complete or broken, and all are told the same',
  48: 'a latch opens with the last of its arrivals, each of which counts once',
  50: 'who follows a prefix is shown what the store held, and told of every revision',
  51: 'a member of a group is listed',
  52: 'all see members in one order, and no two have one share',
  53: 'a configuration loses no change, and is shown only where it is valid',
  55: 'a subscriber gets every message once, in order, whole revisions at a time, or a gap',
  56: 'the position of a durable subscription only moves on, over what was delivered',
  57: 'a group handles every message, acknowledges it once, and keeps the order of its key',
  60: 'transactions of functions take effect once, as if one ran after the other',
  61: 'what all transactions of functions keep is kept at every revision',
  65: 'an instance that is registered is listed',
  66: 'a pool shows what the store held, and picks only what is up',
  67: 'an entry does not go back to older data, and what left does not return',
} as const;

export type InvariantNumber = keyof typeof invariants;

export class Violation extends Error {
  override readonly name = 'Violation';
  readonly invariant: InvariantNumber;

  constructor(invariant: InvariantNumber, detail: string, options?: ErrorOptions) {
    super(`invariant ${invariant} (${invariants[invariant]}): ${detail}`, options);
    this.invariant = invariant;
  }
}

/** Throws a `Violation` unless the invariant holds. The detail is only made when it does not. */
export function hold(
  holds: boolean,
  invariant: InvariantNumber,
  detail: () => string,
): asserts holds {
  if (!holds) throw new Violation(invariant, detail());
}
