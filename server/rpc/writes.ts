/**
 * The way of every write from its service into the log: admitted, proposed, answered.
 *
 * A numbered write that is refused for the state that the store is in, rather than for what it is,
 * may be the repetition of one that took effect before. So the refusal is itself proposed under the
 * number: either it gets the first answer, or no attempt at the write can take effect any more.
 */
import type { ClientCall } from '../clients/call.ts';
import type { Command, CommandResult } from '../command.ts';
import { Fault, Status } from '../faults.ts';
import type { AlarmKind } from '../roster.ts';
import type { Admission } from './admission.ts';
import type { Member, ResultOf } from './member.ts';
import type { CallContext } from './method.ts';
import { Rejection } from './status.ts';

export class Writes {
  readonly #member: Member;
  readonly #admission: Admission;

  constructor(member: Member, admission: Admission) {
    this.#member = member;
    this.#admission = admission;
  }

  /**
   * `costBytes`: the space that the write may need; 0 for those that are always let in. May throw
   * instead of rejecting.
   */
  propose<C extends Command>(
    command: C,
    { requestBytes, client }: CallContext,
    costBytes = 0,
  ): Promise<ResultOf<C>> {
    this.#admission.refuseTooLarge(requestBytes);
    try {
      this.#admission.admit();
      if (costBytes > 0 && !this.#admission.hasRoomFor(costBytes)) {
        return this.#admission
          .full()
          .catch((error: unknown) => this.#refuse(command, client, error));
      }
    } catch (error) {
      return this.#refuse(command, client, error);
    }
    if (client === undefined) return this.#member.propose(command);
    return this.#member.propose(command, client).then((result) => ofKind(command, result));
  }

  async #refuse<C extends Command>(
    command: C,
    client: ClientCall | undefined,
    error: unknown,
  ): Promise<ResultOf<C>> {
    if (client === undefined || !(error instanceof Fault)) throw error;
    return this.#firstResult(command, client, error);
  }

  async #firstResult<C extends Command>(
    command: C,
    client: ClientCall,
    refusal: Fault,
  ): Promise<ResultOf<C>> {
    const fault: AlarmKind = refusal.code === 'corrupt' ? 'corrupt' : 'no-space';
    return ofKind(command, await this.#member.propose({ kind: 'refuse', fault }, client));
  }
}

/** What was stored under the number of a call: its result or another call's. */
function ofKind<C extends Command>(command: C, result: CommandResult): ResultOf<C> {
  if (result.kind === command.kind) return result as ResultOf<C>;
  // Under the number of another command it is a refusal, as versions before `refuse` recorded them.
  if (result.kind === 'alarm') throw new Fault('no-space');
  throw new Rejection(
    Status.INVALID_ARGUMENT,
    `the sequence number of this ${command.kind} belongs to a ${result.kind}: each call needs its own`,
  );
}
