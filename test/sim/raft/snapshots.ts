/**
 * Carries states between members. The bytes travel apart from the messages and take their time; the
 * message that makes Raft take them is stepped where they have arrived.
 */
import type { NodeId, Snapshot } from '../../../server/raft/message.ts';
import type { Engine } from '../engine/engine.ts';
import type { Network } from '../network.ts';
import type { RaftMember } from './member.ts';

const MEAN_TRANSFER_US = 200_000;

export class SnapshotCarrier {
  readonly #engine: Engine;
  readonly #network: Network<never>;
  readonly #memberOf: (number: number) => RaftMember | undefined;

  constructor(
    engine: Engine,
    network: Network<never>,
    memberOf: (number: number) => RaftMember | undefined,
  ) {
    this.#engine = engine;
    this.#network = network;
    this.#memberOf = memberOf;
  }

  carry(from: RaftMember, to: NodeId): void {
    const { raft } = from;
    if (raft === undefined || !from.reached('snapshot-opened')) return;
    const { index, term: indexTerm, configuration } = from.store.state;
    const message: Snapshot = {
      kind: 'snapshot',
      from: from.id,
      to,
      term: raft.term,
      index,
      indexTerm,
      configuration,
    };
    const site = this.#engine.decisions.site('network', `carry ${from.number}>${to}`);
    const isCutShort = site.chance(this.#network.faults.lossRate / 2);
    this.#engine.after(1 + site.exponential(MEAN_TRANSFER_US), () => {
      if (from.raft !== raft) return;
      const receiver = this.#memberOf(Number(to));
      const hasArrived =
        !isCutShort &&
        receiver?.isUp === true &&
        !receiver.isPaused &&
        !this.#network.isCut(from.number, receiver.number);
      if (hasArrived) {
        receiver.receive(message);
        // A transfer that was tried again arrives twice.
        if (site.chance(this.#network.faults.duplicateRate)) receiver.receive(message);
      }
      if (from.raft !== raft || !from.reached('snapshot-sent')) return;
      const isConfirmed = hasArrived && !this.#network.isCut(Number(to), from.number);
      from.input((core) =>
        core.snapshotReported(to, isConfirmed ? { sent: true, index } : { sent: false }),
      );
    });
  }
}
