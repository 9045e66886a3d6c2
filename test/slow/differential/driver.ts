/** Runs one sequence on both servers, step by step, and stops at the first difference. */
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { CallStep, Step, WatchStep } from '../../support/generators/step.ts';
import {
  intendedDifferences,
  withoutProgress,
  withoutTombstonesAt,
} from './intended-differences.ts';
import { firstDifference, type Outcome, type Plain, plain } from './normalise.ts';
import type { Side } from './side.ts';

/**
 * etcd brings a watcher of a past revision up to date on a 100 ms tick. The answers are compared
 * once both streams have been quiet for a while after that.
 */
const catchUpMs = 150;
const quietMs = 50;
const lateMs = 2_000;

const writingCalls = new Set(['put', 'deleteRange', 'txn', 'leaseRevoke']);

export type Difference = {
  /** Equal for differences that are likely the same. */
  readonly signature: string;
  readonly text: string;
  /** Index of the step that showed it. */
  readonly at: number;
};

export type Pair = { readonly reference: Side; readonly subject: Side };

export type Trace = { readonly step: Step; readonly request: Plain; readonly outcome: Plain };

type State = { base: bigint; current: bigint; compacted: bigint };

export class SequenceRun {
  readonly trace: Trace[] = [];
  readonly #pair: Pair;
  readonly #state: State;
  readonly #oldTombstones = new Set<bigint>();
  /** Streams with a watcher that waits for its start: only newer servers keep progress back there. */
  readonly #waitingStreams = new Set<number>();

  private constructor(pair: Pair, base: bigint) {
    this.#pair = pair;
    this.#state = { base, current: base, compacted: base };
    this.#oldTombstones.add(base);
  }

  /** Both servers must be at the same revision after the reset; otherwise they need to be replaced. */
  static async begin(pair: Pair): Promise<SequenceRun | undefined> {
    const reference = await pair.reference.reset();
    const subject = await pair.subject.reset();
    return reference === subject ? new SequenceRun(pair, reference) : undefined;
  }

  async run(steps: readonly Step[]): Promise<Difference | undefined> {
    for (const [index, step] of steps.entries()) {
      const found = await this.#step(step);
      if (found !== undefined) return { ...found, at: index };
    }
    return undefined;
  }

  async #step(step: Step): Promise<Omit<Difference, 'at'> | undefined> {
    const found = step.kind === 'call' ? await this.#call(step) : await this.#watch(step);
    return found ?? (await this.#settledStreams(step));
  }

  /** A difference between streams counts if it stays: one server may only be slower. */
  async #settledStreams(step: Step): Promise<Omit<Difference, 'at'> | undefined> {
    const deadlineMs = performance.now() + lateMs;
    for (;;) {
      const found = this.#compareStreams(step);
      if (found === undefined || performance.now() > deadlineMs) return found;
      await delay(quietMs / 5);
    }
  }

  async #call(step: CallStep): Promise<Omit<Difference, 'at'> | undefined> {
    const { reference, subject } = this.#pair;
    const referenceSymbols = reference.symbols(this.#state);
    const subjectSymbols = subject.symbols(this.#state);
    const request = plain(step.request(referenceSymbols));
    if (step.expected !== undefined) {
      const expected: Outcome = { ok: false, ...step.expected };
      if (subject.server.system === 'etcd') return undefined;
      return this.#compare(step, request, expected, await subject.call(step, subjectSymbols));
    }
    const [left, right] = await Promise.all([
      reference.call(step, referenceSymbols),
      subject.call(step, subjectSymbols),
    ]);
    this.#learn(step, left, step.request(referenceSymbols));
    const found = this.#compare(step, request, left, right);
    if (found === undefined && writingCalls.has(step.call)) await this.#settle();
    return found;
  }

  #compare(
    step: CallStep,
    request: Plain,
    reference: Outcome,
    subject: Outcome,
  ): Omit<Difference, 'at'> | undefined {
    this.trace.push({ step, request, outcome: plain(reference) });
    const found = firstDifference(plain(reference), plain(subject));
    if (found === undefined) return undefined;
    if (intendedDifferences.some((one) => one.accepts({ step, request, reference, subject })))
      return undefined;
    const summary = (outcome: Outcome): string =>
      outcome.ok ? 'ok' : `${outcome.code} ${outcome.message}`;
    const where = reference.ok && subject.ok ? found.path.replace(/\d+/g, '#') : '';
    return {
      signature: `${step.call}: ${summary(reference)} / ${summary(subject)} ${where}`,
      text: [
        `${step.call} differs at ${found.path}`,
        `  reference: ${JSON.stringify(reference)}`,
        `  subject:   ${JSON.stringify(subject)}`,
      ].join('\n'),
    };
  }

  /** Follows the revisions that later symbols refer to. */
  #learn(step: CallStep, outcome: Outcome, request: object): void {
    if (!outcome.ok || typeof outcome.body !== 'object' || Array.isArray(outcome.body)) return;
    const header = outcome.body['header'];
    if (typeof header === 'object' && !Array.isArray(header)) {
      const revision = BigInt(String(header['revision'] ?? '0n').slice(0, -1));
      if (revision > this.#state.current) this.#state.current = revision;
    }
    if (step.call !== 'compact') return;
    this.#state.compacted = (request as { revision: bigint }).revision;
    this.#oldTombstones.add(this.#state.compacted);
  }

  /** Waits until every event so far has reached every stream of both servers. */
  async #settle(): Promise<void> {
    const { reference, subject } = this.#pair;
    if (reference.streams.length === 0) return;
    await Promise.all([reference.settleStreams(), subject.settleStreams()]);
    this.#state.current += 1n;
  }

  async #watch(step: WatchStep): Promise<undefined> {
    if (step.future) this.#waitingStreams.add(step.stream);
    const sides = [this.#pair.reference, this.#pair.subject] as const;
    const streams = await Promise.all(sides.map((side) => side.stream(step.stream)));
    this.trace.push({
      step,
      request: plain(step.request(this.#pair.reference.symbols(this.#state))),
      outcome: undefined,
    });
    for (const [index, side] of sides.entries())
      streams[index]?.send(step.request(side.symbols(this.#state)));
    await Promise.all(streams.map((stream) => stream.fence()));
    if (!step.historic) return;
    await delay(catchUpMs);
    while (streams.some((stream) => stream.idleMs < quietMs)) await delay(quietMs / 5);
  }

  #compareStreams(step: Step): Omit<Difference, 'at'> | undefined {
    const { reference, subject } = this.#pair;
    for (const [index, left] of reference.streams.entries()) {
      const right = subject.streams[index];
      if (right === undefined) throw new Error('the servers have different streams');
      const found =
        this.#streamDifference(
          this.#comparableControl(index, left.control),
          this.#comparableControl(index, right.control),
          `stream ${index}, control`,
        ) ?? this.#eventDifference(left.events, right.events, `stream ${index}`);
      if (found !== undefined) return found;
      const broken = right.violations[0] ?? right.ended;
      if (broken !== undefined)
        return {
          signature: `watch: ${broken.replace(/\d+/g, '#')}`,
          text: `stream ${index} of the subject after ${step.kind}: ${broken}`,
        };
      const referenceBroken = left.violations[0] ?? left.ended;
      if (referenceBroken !== undefined)
        throw new Error(`the reference breaks a guarantee: ${referenceBroken}`);
    }
    return undefined;
  }

  #comparableControl(stream: number, control: readonly Plain[]): readonly Plain[] {
    return this.#waitingStreams.has(stream) ? withoutProgress(control) : control;
  }

  #eventDifference(
    reference: ReadonlyMap<string, readonly Plain[]>,
    subject: ReadonlyMap<string, readonly Plain[]>,
    where: string,
  ): Omit<Difference, 'at'> | undefined {
    const comparable = (events: readonly Plain[]): readonly Plain[] =>
      [...this.#oldTombstones].reduce<readonly Plain[]>(
        (rest, revision) => withoutTombstonesAt(revision, rest),
        events,
      );
    for (const id of new Set([...reference.keys(), ...subject.keys()])) {
      const found = this.#streamDifference(
        comparable(reference.get(id) ?? []),
        comparable(subject.get(id) ?? []),
        `${where}, events of watcher ${id}`,
      );
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #streamDifference(
    reference: readonly Plain[],
    subject: readonly Plain[],
    where: string,
  ): Omit<Difference, 'at'> | undefined {
    if (isDeepStrictEqual(reference, subject)) return undefined;
    const at = reference.findIndex((item, index) => !isDeepStrictEqual(item, subject[index]));
    const index = at < 0 ? reference.length : at;
    const found = firstDifference(reference[index], subject[index]);
    return {
      signature: `watch ${where.replace(/\d+/g, '#')}: ${found?.path.replace(/\d+/g, '#') ?? ''}`,
      text: [
        `${where}: item ${index} differs (${reference.length} against ${subject.length})`,
        `  reference: ${JSON.stringify(reference[index])}`,
        `  subject:   ${JSON.stringify(subject[index])}`,
      ].join('\n'),
    };
  }
}
