/** Checks of what recipes promise: sets, locks with fencing, queues. Pure functions of histories. */
import { isAnswered, type Operation, precedes } from './history.ts';

export type SetAdd = { readonly kind: 'add'; readonly element: string };
export type SetRead = { readonly kind: 'read' };
export type SetOperation = Operation<SetAdd | SetRead, { readonly elements?: readonly string[] }>;

/**
 * A set that only grows: nothing acknowledged is lost, nothing refused or unknown to everybody
 * appears, nothing vanishes again. An addition without an answer may appear at any time.
 */
export function checkGrowingSet(operations: readonly SetOperation[]): string[] {
  const violations: string[] = [];
  const adds = new Map<string, SetOperation>();
  for (const operation of operations)
    if (operation.action.kind === 'add') adds.set(operation.action.element, operation);
  const reads = operations
    .filter(({ action }) => action.kind === 'read')
    .filter(isAnswered)
    .map((operation) => {
      const listed = operation.outcome.answer.elements ?? [];
      const elements = new Set(listed);
      if (elements.size < listed.length)
        violations.push(`read ${operation.id} lists an element twice`);
      return { operation, elements };
    })
    .sort((a, b) => a.operation.returned - b.operation.returned);
  for (const { operation, elements } of reads)
    for (const element of elements) {
      const add = adds.get(element);
      if (add === undefined || add.outcome.kind === 'fail')
        violations.push(`read ${operation.id} shows ${element}, which nobody added`);
      else if (operation.returned < add.invoked)
        violations.push(`read ${operation.id} shows ${element} before it was added`);
    }
  for (const [element, add] of adds) {
    let since = add.outcome.kind === 'ok' ? add.returned : Number.POSITIVE_INFINITY;
    for (const { operation, elements } of reads)
      if (elements.has(element)) since = Math.min(since, operation.returned);
      else if (since < operation.invoked)
        violations.push(`lost: read ${operation.id} does not show ${element} any more`);
  }
  return violations;
}

/** One hold of a lock as its holder saw it. */
export type Hold = {
  readonly holder: string;
  /** Rises from hold to hold. */
  readonly token: bigint;
  /** When the attempt was sent, when it was answered. */
  readonly asked: number;
  readonly acquired: number;
  /** When the holder gave it up, or learned that it was lost. Infinity: never. */
  readonly ended: number;
};

/** A write that a fenced resource accepted, in the order it accepted them. */
export type FencedWrite = { readonly holder: string; readonly token: bigint };

/** Tokens are unique and rise in real time; a fenced resource never goes back to an older one. */
export function checkFencing(holds: readonly Hold[], writes: readonly FencedWrite[]): string[] {
  const violations: string[] = [];
  const byReturn = [...holds].sort((a, b) => a.acquired - b.acquired);
  const byAsking = [...holds].sort((a, b) => a.asked - b.asked);
  const seen = new Map<bigint, Hold>();
  for (const hold of holds) {
    const other = seen.get(hold.token);
    if (other !== undefined)
      violations.push(`token ${hold.token} was given to ${other.holder} and to ${hold.holder}`);
    seen.set(hold.token, hold);
  }
  let next = 0;
  let highest: Hold | undefined;
  for (const hold of byAsking) {
    for (let one = byReturn[next]; one !== undefined && one.acquired < hold.asked; ) {
      if (highest === undefined || one.token > highest.token) highest = one;
      next += 1;
      one = byReturn[next];
    }
    if (highest !== undefined && hold.token < highest.token)
      violations.push(
        `token ${hold.token} of ${hold.holder} was asked for after ${highest.holder} had ${highest.token}`,
      );
  }
  let accepted: FencedWrite | undefined;
  for (const write of writes) {
    if (accepted !== undefined && write.token < accepted.token)
      violations.push(
        `fencing: a write of ${write.holder} with ${write.token} was accepted after one of ${accepted.holder} with ${accepted.token}`,
      );
    accepted = write;
  }
  return violations;
}

/**
 * Pairs of holds that overlapped in real time. A lock on leases cannot rule them out when processes
 * stop for long, so this is measured; with neither pauses nor partitions there must be none.
 */
export function overlappingHolds(holds: readonly Hold[]): (readonly [Hold, Hold])[] {
  const overlaps: (readonly [Hold, Hold])[] = [];
  let current: Hold | undefined;
  for (const hold of [...holds].sort((a, b) => a.acquired - b.acquired)) {
    if (current !== undefined && hold.acquired < current.ended) overlaps.push([current, hold]);
    if (current === undefined || hold.ended > current.ended) current = hold;
  }
  return overlaps;
}

export type QueueAction =
  | { readonly kind: 'push'; readonly item: string }
  /** Handing the item to a worker. */
  | { readonly kind: 'claim'; readonly item: string }
  /** The worker says that it is done. */
  | { readonly kind: 'complete'; readonly item: string };

/**
 * A work queue: an acknowledged item is handed out at least once or is still there; nothing is handed
 * out that nobody pushed; an item is completed once, and never handed out after that.
 */
export function checkQueue(
  operations: readonly Operation<QueueAction, true>[],
  /** What the queue still holds at the end. */
  remaining: readonly string[],
): string[] {
  const violations: string[] = [];
  const of = (kind: QueueAction['kind']) => {
    const byItem = new Map<string, Operation<QueueAction, true>[]>();
    for (const operation of operations) {
      if (operation.action.kind !== kind) continue;
      const list = byItem.get(operation.action.item) ?? [];
      list.push(operation);
      byItem.set(operation.action.item, list);
    }
    return byItem;
  };
  const pushes = of('push');
  const claims = of('claim');
  const completions = of('complete');
  const left = new Set(remaining);
  for (const item of [...claims.keys(), ...left])
    if ((pushes.get(item) ?? []).every(({ outcome }) => outcome.kind === 'fail'))
      violations.push(`${item} is in the queue, and nobody pushed it`);
  for (const [item, [push]] of pushes)
    if (push?.outcome.kind === 'ok' && !left.has(item) && !claims.has(item))
      violations.push(`lost: ${item} was pushed, never handed out, and is gone`);
  for (const [item, attempts] of completions) {
    const done = attempts.filter(isAnswered);
    if (done.length > 1) violations.push(`${item} was completed ${done.length} times`);
    if (done.length > 0 && left.has(item))
      violations.push(`${item} was completed and is still there`);
    for (const completion of done)
      for (const claim of claims.get(item) ?? [])
        if (claim.outcome.kind === 'ok' && precedes(completion, claim))
          violations.push(`${item} was handed out again after it had been completed`);
  }
  for (const [item, handed] of claims) {
    const wasDone = (completions.get(item) ?? []).some(({ outcome }) => outcome.kind !== 'fail');
    if (handed.some(isAnswered) && !wasDone && !left.has(item))
      violations.push(`lost: ${item} was handed out, never completed, and is gone`);
  }
  return violations;
}
