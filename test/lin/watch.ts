/**
 * What a watch promises, held against the log of the store: events come in order, each once, whole
 * revisions at a time, without gaps from the start revision on, nothing else, with the right previous
 * value; and a progress notification says that everything up to its revision was delivered.
 */
import { print } from './history.ts';
import { applyChanges, type Change, type Commit, type Entry, sameEntry } from './store.ts';

export type WatchEvent = Change & {
  readonly revision: number;
  /** The entry before, if the watch asked for it. */
  readonly previous?: Entry | undefined;
};

export type WatchResponse =
  | { readonly kind: 'created'; readonly revision: number }
  /** `isFragment`: more of the same revision follows. */
  | {
      readonly kind: 'events';
      readonly revision: number;
      readonly events: readonly WatchEvent[];
      readonly isFragment?: boolean;
    }
  | { readonly kind: 'progress'; readonly revision: number }
  /** `compactRevision` is 0 unless compaction is the reason. */
  | { readonly kind: 'cancelled'; readonly compactRevision: number; readonly reason: string };

/** One watch from its creation to its end, whatever ended it. A resumed watch is another one. */
export type WatchRun = {
  readonly name: string;
  readonly request: {
    /** 0: from now, which is the revision of the created response. */
    readonly startRevision: number;
    readonly matches: (key: string) => boolean;
    readonly wants?: 'puts' | 'deletes' | undefined;
    readonly withPrevious?: boolean;
  };
  readonly responses: readonly WatchResponse[];
};

/** A log prepared for many watches. */
export class WatchLog {
  /** Every event in order, with what it replaced. */
  readonly events: readonly Required<WatchEvent>[];
  /** What comes after it is not judged: the store went on. */
  readonly lastRevision: number;

  /** `log` is gapless; `entries` is what the store held before it. */
  constructor(log: readonly Commit[], entries: ReadonlyMap<string, Entry> = new Map()) {
    const current = new Map(entries);
    const events: Required<WatchEvent>[] = [];
    for (const { revision, changes } of log)
      for (const change of changes) {
        events.push({ ...change, revision, previous: current.get(change.key) });
        applyChanges(current, [change]);
      }
    this.events = events;
    this.lastRevision = log.at(-1)?.revision ?? 0;
  }
}

/**
 * What is wrong with one watch, in words. `mustReach` is the revision up to which it must have
 * delivered everything by its end; a watch that broke need not have come so far.
 */
export function checkWatchRun(log: WatchLog, run: WatchRun, mustReach = 0): string[] {
  return new WatchCheck(log, run).check(mustReach);
}

class WatchCheck {
  readonly #run: WatchRun;
  readonly #violations: string[] = [];
  readonly #relevant: readonly Required<WatchEvent>[];
  /** The place in `#relevant` of the event that must come next. */
  #next = 0;
  readonly #lastRevision: number;
  #cursor: number;
  #isEnded = false;

  constructor(log: WatchLog, run: WatchRun) {
    this.#run = run;
    const { matches, wants } = run.request;
    this.#relevant = log.events.filter(
      ({ type, key }) =>
        matches(key) && (wants === undefined || (wants === 'puts') === (type === 'put')),
    );
    this.#lastRevision = log.lastRevision;
    this.#cursor = run.request.startRevision;
    this.#seek();
  }

  #seek(): void {
    while ((this.#relevant[this.#next]?.revision ?? Number.POSITIVE_INFINITY) < this.#cursor)
      this.#next += 1;
  }

  check(mustReach: number): string[] {
    for (const response of this.#run.responses) {
      if (this.#isEnded) this.#report('a response after the watch was cancelled');
      this.#step(response);
    }
    const missing = this.#relevant[this.#next];
    if (!this.#isEnded && missing !== undefined && missing.revision <= mustReach)
      this.#report(`never delivered revision ${missing.revision}, the store is at ${mustReach}`);
    return this.#violations;
  }

  #step(response: WatchResponse): void {
    switch (response.kind) {
      case 'created':
        if (this.#run.request.startRevision !== 0) return;
        this.#cursor = response.revision + 1;
        this.#seek();
        return;
      case 'events':
        for (const event of response.events) this.#deliver(event);
        this.#checkWhole(response.isFragment === true);
        if (response.revision < (response.events.at(-1)?.revision ?? 0))
          this.#report(`the header names revision ${response.revision}, below its own events`);
        return;
      case 'progress': {
        const missing = this.#relevant[this.#next];
        if (missing !== undefined && missing.revision <= response.revision)
          this.#report(
            `bookmarkable: progress to ${response.revision} before revision ${missing.revision} was delivered`,
          );
        this.#cursor = Math.max(this.#cursor, response.revision + 1);
        return;
      }
      case 'cancelled':
        this.#isEnded = true;
        if (response.compactRevision > 0 && response.compactRevision < this.#cursor)
          this.#report(
            `cancelled for compaction at ${response.compactRevision}, yet it needs only ${this.#cursor} and later`,
          );
        return;
    }
  }

  #deliver(event: WatchEvent): void {
    if (event.revision > this.#lastRevision) return;
    const expected = this.#relevant[this.#next];
    if (
      expected !== undefined &&
      isSame(event, expected, this.#run.request.withPrevious === true)
    ) {
      this.#next += 1;
      this.#cursor = event.revision;
      return;
    }
    const place = this.#relevant.findIndex(
      ({ revision, key, type }) =>
        revision === event.revision && key === event.key && type === event.type,
    );
    if (place < 0) this.#report(`reliable: delivered what is not in the log: ${print(event)}`);
    else if (place < this.#next)
      this.#report(`ordered, unique: revision ${event.revision} came late or again`);
    else if (place > this.#next) {
      this.#report(
        `reliable: revision ${event.revision} came, ${this.#relevant[this.#next]?.revision} was left out`,
      );
      this.#next = place + 1;
    } else {
      this.#report(`altered: ${print(event)}, the log has ${print(expected)}`);
      this.#next += 1;
    }
  }

  /** Atomic: the end of a response is the end of a revision. */
  #checkWhole(isFragment: boolean): void {
    const last = this.#relevant[this.#next - 1];
    const following = this.#relevant[this.#next];
    const isInside = last !== undefined && last.revision === following?.revision;
    if (isInside && !isFragment && last.revision >= this.#run.request.startRevision)
      this.#report(`atomic: revision ${last.revision} was split over two responses`);
  }

  #report(what: string): void {
    this.#violations.push(`watch ${this.#run.name}: ${what}`);
  }
}

function isSame(event: WatchEvent, expected: WatchEvent, withPrevious: boolean): boolean {
  return (
    event.revision === expected.revision &&
    event.type === expected.type &&
    event.key === expected.key &&
    sameEntry(event.entry, expected.entry) &&
    (!withPrevious || sameEntry(event.previous, expected.previous))
  );
}
