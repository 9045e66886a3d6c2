/** Changes of the members: asked for anywhere, judged and proposed by the leader. */
import { Fault } from './faults.ts';
import type { LeaderQuestions } from './leader-questions.ts';
import { encodeMembership, type MembershipCommand } from './membership.ts';
import type { Node } from './node.ts';
import type { PeerStatus } from './raft/raft.ts';
import { reconfigurationFault } from './reconfiguration.ts';
import type { Replica } from './replica.ts';
import type { Replies } from './transport/transport.ts';

export type MembershipChangesOptions = {
  readonly self: bigint;
  readonly node: Node;
  readonly replica: Replica;
  readonly questions: LeaderQuestions;
  /** How far the others are, while this member leads. */
  readonly progress: () => readonly PeerStatus[];
  /** For how long another member has been reachable without a break; undefined: it is not. */
  readonly connectedMs: (id: bigint) => number | undefined;
  /** Refuse changes after which too few started members would be left. */
  readonly strictReconfigCheck: boolean;
};

export class MembershipChanges {
  readonly #options: MembershipChangesOptions;
  readonly #waiting = new Set<() => void>();

  constructor(options: MembershipChangesOptions) {
    this.#options = options;
  }

  /**
   * Any member may be asked.
   *
   * @returns the log index by which the leader had applied it
   */
  async make(change: MembershipCommand, signal: AbortSignal): Promise<number> {
    try {
      const { index } = await this.#options.questions.ask<'propose-membership'>(
        { kind: 'propose-membership', command: encodeMembership(change) },
        () => this.makeHere(change),
        { isRepeatable: false, caller: { signal } },
      );
      return index;
    } catch (error) {
      if (!(await this.#tookEffect(change, error, signal))) throw error;
      return this.#options.replica.appliedIndex;
    }
  }

  /** The leader's part. */
  async makeHere(change: MembershipCommand): Promise<Replies['propose-membership']> {
    const { self, node, replica, progress, connectedMs, strictReconfigCheck } = this.#options;
    if (!replica.isServingLeader) throw new Fault('not-leader');
    const matches = new Map(progress().map(({ id, match }) => [id, match]));
    const fault = reconfigurationFault(change, {
      members: replica.machine.members,
      self,
      strict: strictReconfigCheck,
      connectedMs,
      match: (id) => (id === self ? replica.lastIndex : matches.get(id)),
    });
    if (fault !== undefined) throw new Fault(fault);
    await node.proposeMembership(change);
    if (change.kind === 'member-replace') await this.#untilOut(change.old);
    return { kind: 'membership-changed', index: replica.appliedIndex };
  }

  /** Who takes part, or who leads, is not what it was. */
  somethingChanged(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }

  /**
   * A member is replaced when it is out, not when the joint configuration is entered: as long as that
   * lasts its vote counts, and who stops it, as replaced, may stop the cluster.
   */
  async #untilOut(id: bigint): Promise<void> {
    const { replica } = this.#options;
    while (replica.machine.members.some((member) => member.id === id)) {
      if (!replica.isServingLeader) throw new Fault('leader-changed');
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  }

  /**
   * Whether the answer was lost and the change was not: the others let go of a leader that they
   * removed, and of what it had to say.
   */
  async #tookEffect(
    change: MembershipCommand,
    error: unknown,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (!(error instanceof Fault) || error.code !== 'timeout-due-to-connection-lost') return false;
    const { node, replica } = this.#options;
    await node.linearize(signal);
    const { members, removed } = replica.machine;
    const find = (id: bigint) => members.find((member) => member.id === id);
    switch (change.kind) {
      case 'member-add':
        return find(change.id) !== undefined;
      case 'member-remove':
        return removed.includes(change.id);
      case 'member-promote':
        return find(change.id)?.isLearner === false;
      case 'member-replace':
        return find(change.learner)?.isLearner === false && find(change.old) === undefined;
      case 'bootstrap':
      case 'member-leave':
        return false;
    }
  }
}
