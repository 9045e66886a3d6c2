import { type Command, decodeCommand, encodeCommand } from '../../server/command.ts';
import { Machine } from '../../server/machine.ts';
import { runToEnd } from '../../server/mvcc/range.ts';
import type { RangeRequest } from '../../server/mvcc/types.ts';
import type { State } from '../../server/ports.ts';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';

export const MIN_TTL_SECONDS = 2;
export const MAX_TXN_OPS = 16;

/** A machine on a state, driven the way a replica drives it. */
export class Rig {
  machine: Machine;
  readonly state: State;
  readonly #compactionStepRecords: number | undefined;

  constructor(state: State = new SortedState(), compactionStepRecords?: number) {
    this.state = state;
    this.#compactionStepRecords = compactionStepRecords;
    this.machine = this.#boot();
  }

  #boot(): Machine {
    const machine = new Machine({
      minLeaseTtlSeconds: MIN_TTL_SECONDS,
      maxTxnOps: MAX_TXN_OPS,
      ...(this.#compactionStepRecords === undefined
        ? undefined
        : { compactionStepRecords: this.#compactionStepRecords }),
    });
    machine.load(this.state, 0);
    return machine;
  }

  restart(): void {
    this.machine = this.#boot();
  }

  apply(command: Command, term = 1): ReturnType<Machine['apply']> {
    const index = this.state.appliedIndex + 1;
    const entry = decodeCommand(encodeCommand(command));
    const applied = this.machine.apply({ index, term, nowMs: index }, entry, this.state);
    this.state.apply(index, applied.writes);
    return applied;
  }

  /** Returns whether nothing is left to do. */
  compactionStep(): boolean {
    const { writes, done } = this.machine.compactionStep(this.state);
    if (writes.length > 0) this.state.apply(this.state.appliedIndex, writes);
    return done;
  }

  compactToEnd(): void {
    while (!this.compactionStep());
  }

  range(request: RangeRequest): unknown {
    return plain(runToEnd(this.machine.range(this.state, request)));
  }

  hash(revision = 0): unknown {
    return runToEnd(this.machine.hashKv(this.state, revision));
  }

  /** The entry's result, with bytes as text. */
  result(command: Command, term = 1): unknown {
    return plain(this.apply(command, term).result);
  }
}
