/**
 * What clients did, when, and what they were told: the input of every checker in this folder.
 *
 * Times come from one clock that never goes back, and only their order counts: nanoseconds of the
 * machine, virtual time, or the number of an event. Two operations are ordered when one returned
 * strictly before the other was invoked; otherwise they ran at the same time.
 */

export type Outcome<Answer> =
  | { readonly kind: 'ok'; readonly answer: Answer }
  /** Refused: it certainly had no effect and never will. */
  | { readonly kind: 'fail'; readonly reason: string }
  /** It takes effect once, at any moment after it was invoked, or never. */
  | { readonly kind: 'unknown'; readonly reason: string };

export type Operation<Action, Answer> = {
  readonly id: number;
  /** Who called; one client may have several operations under way. */
  readonly client: string;
  readonly action: Action;
  readonly invoked: number;
  /** When the client was answered or gave up. Says nothing about the effect of an unknown one. */
  readonly returned: number;
  readonly outcome: Outcome<Answer>;
};

export type Answered<Action, Answer> = Operation<Action, Answer> & {
  readonly outcome: { readonly kind: 'ok'; readonly answer: Answer };
};

export function isAnswered<Action, Answer>(
  operation: Operation<Action, Answer>,
): operation is Answered<Action, Answer> {
  return operation.outcome.kind === 'ok';
}

/** The last moment at which the operation can have taken effect. */
export function latestEffect(operation: Operation<unknown, unknown>): number {
  return operation.outcome.kind === 'unknown' ? Number.POSITIVE_INFINITY : operation.returned;
}

/** Whether one certainly took effect before the other began. */
export function precedes(
  earlier: Operation<unknown, unknown>,
  later: Operation<unknown, unknown>,
): boolean {
  return latestEffect(earlier) < later.invoked;
}

/** Collects operations while they run. */
export class Recorder<Action, Answer> {
  readonly #now: () => number;
  readonly #firstId: number;
  readonly #step: number;
  readonly #open = new Map<number, Operation<Action, Answer>>();
  readonly #finished: Operation<Action, Answer>[] = [];
  #count = 0;

  /**
   * `now` must never go back. Recorders that feed one history take different places of the same
   * number of places, so that their ids do not meet.
   */
  constructor(now: () => number, { place = 0, places = 1 } = {}) {
    this.#now = now;
    this.#firstId = place + 1;
    this.#step = places;
  }

  /** Call immediately before the request goes out. */
  begin(client: string, action: Action): number {
    const id = this.#firstId + this.#step * this.#count++;
    const invoked = this.#now();
    const outcome = { kind: 'unknown', reason: 'still under way' } as const;
    this.#open.set(id, { id, client, action, invoked, returned: invoked, outcome });
    return id;
  }

  /** Call immediately after the answer came in. */
  end(id: number, outcome: Outcome<Answer>): void {
    const begun = this.#open.get(id);
    if (begun === undefined) throw new Error(`operation ${id} is not under way`);
    this.#open.delete(id);
    this.#finished.push({ ...begun, returned: this.#now(), outcome });
  }

  /** Everything so far. What is still under way counts as unknown. */
  operations(): Operation<Action, Answer>[] {
    return [...this.#finished, ...this.#open.values()];
  }
}

/** One line about an operation, for reports. */
export function describeOperation(operation: Operation<unknown, unknown>): string {
  const { id, client, action, invoked, returned, outcome } = operation;
  return `operation ${id} of ${client} [${invoked}, ${returned}] ${print(action)} -> ${print(outcome)}`;
}

/** JSON in which lease ids, being bigints, are plain numbers. */
export function print(value: unknown): string {
  return (
    JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? `${inner}` : inner)) ??
    'nothing'
  );
}
