import type { ClientCall } from '../../server/clients/call.ts';
import { type Command, decodeCommand, encodeCommand } from '../../server/command.ts';
import { Machine, type MachineOptions } from '../../server/machine.ts';
import {
  decodeMembership,
  encodeMembership,
  type MembershipCommand,
} from '../../server/membership.ts';
import { runToEnd } from '../../server/mvcc/range.ts';
import type { KeyValue, RangeRequest, TxnRequest } from '../../server/mvcc/types.ts';
import type { State } from '../../server/ports.ts';
import { plain } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';

export const MIN_TTL_SECONDS = 2;
export const MAX_TXN_OPS = 16;

/** A machine on a state, driven the way a replica drives it. */
export class Rig {
  machine: Machine;
  readonly state: State;
  readonly #options: Partial<MachineOptions>;
  #withSink = false;

  constructor(state: State = new SortedState(), options: Partial<MachineOptions> = {}) {
    this.state = state;
    this.#options = options;
    this.machine = this.#boot();
  }

  #boot(): Machine {
    const machine = new Machine({
      minLeaseTtlSeconds: MIN_TTL_SECONDS,
      maxTxnOps: MAX_TXN_OPS,
      ...this.#options,
    });
    machine.load(this.state, 0);
    return machine;
  }

  restart(): void {
    this.machine = this.#boot();
  }

  apply(
    command: Command | MembershipCommand,
    term = 1,
    call?: ClientCall,
  ): ReturnType<Machine['apply']> {
    const index = this.state.appliedIndex + 1;
    const at = { index, term, nowMs: index };
    const applied = this.machine.apply(at, copied(command), this.state, call);
    this.state.apply(index, applied.writes, term);
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

  /** Every other time by way of a sink, which gets what the result holds otherwise. */
  range(request: RangeRequest): unknown {
    this.#withSink = !this.#withSink;
    if (!this.#withSink) return plain(runToEnd(this.machine.range(this.state, request)));
    const kvs: KeyValue[] = [];
    const sink = { add: (kv: KeyValue) => void kvs.push(kv) };
    const result = runToEnd(this.machine.range(this.state, request, sink));
    return plain(result.kind === 'range' ? { ...result, kvs: [...kvs, ...result.kvs] } : result);
  }

  readTxn(request: TxnRequest): unknown {
    return plain(runToEnd(this.machine.readTxn(this.state, request)));
  }

  hash(revision = 0): unknown {
    return runToEnd(this.machine.hashKv(this.state, revision));
  }

  /** Of everything. */
  checksum(): number {
    return runToEnd(this.machine.hash(this.state));
  }

  /** The entry's result, with bytes as text. */
  result(command: Command | MembershipCommand, term = 1, call?: ClientCall): unknown {
    return plain(this.apply(command, term, call).result);
  }
}

/** As the log gives it back. */
function copied(command: Command | MembershipCommand): Command | MembershipCommand {
  switch (command.kind) {
    case 'bootstrap':
    case 'member-add':
    case 'member-remove':
    case 'member-promote':
    case 'member-replace':
    case 'member-leave':
      return decodeMembership(encodeMembership(command));
    default:
      return decodeCommand(encodeCommand(command));
  }
}
