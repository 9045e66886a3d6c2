/**
 * Takes requests to the log: proposes them to Raft, proposes again what was certainly not appended,
 * and tells who asked when it is certain that nothing will come of it, or no longer worth waiting.
 */
import type { ClientCall } from './clients/call.ts';
import type { Command } from './command.ts';
import { Envelopes } from './envelope.ts';
import type { FaultCode } from './faults.ts';
import type { MembershipCommand } from './membership.ts';
import { Proposals, type Request } from './proposals.ts';
import { NO_NODE, type ProposalRefusal } from './raft/message.ts';
import type { Raft } from './raft/raft.ts';

export type Proposal = {
  /** Chosen by the host, from 1. */
  readonly id: number;
  readonly command: Command;
  /** Makes it count once, however often it is proposed. */
  readonly client?: ClientCall;
};

export type ChangeProposal = {
  readonly id: number;
  readonly command: MembershipCommand;
  readonly client?: ClientCall;
};

export type ProposerOptions = {
  readonly raft: Raft;
  /** How long a proposal may wait for its entry to be applied. */
  readonly requestTimeoutMs: number;
  readonly electionTimeoutMs: number;
  readonly onFault: (id: number, fault: FaultCode) => void;
  /** A command that nobody waits for is certainly in no log. */
  readonly onNotProposed: (command: Command) => void;
};

/** Id of proposals that nobody waits for. */
export const INTERNAL = 0;

export class Proposer {
  readonly #options: ProposerOptions;
  readonly #raft: Raft;
  readonly #envelopes: Envelopes;
  readonly #proposals = new Proposals();
  /** Since when no leader is known; undefined while one is. */
  #leaderlessSinceMs: number | undefined;

  constructor(options: ProposerOptions) {
    this.#options = options;
    this.#raft = options.raft;
    this.#envelopes = new Envelopes(options.raft.incarnation);
  }

  propose(proposals: readonly Proposal[], nowMs: number): void {
    const holdUntilMs = nowMs + this.#options.electionTimeoutMs;
    const requests: Request[] = [];
    for (const { id, command, client } of proposals) {
      requests.push({ kind: 'command', id, command, client, holdUntilMs });
    }
    this.#submit(requests, nowMs);
  }

  /** Not forwarded: only the leader can judge whether a change of members is wise. */
  proposeChange({ id, command, client }: ChangeProposal, nowMs: number): void {
    const holdUntilMs = nowMs + this.#options.electionTimeoutMs;
    this.#submit([{ kind: 'configuration', id, command, client, holdUntilMs }], nowMs);
  }

  /** Refuses what was not proposed yet. */
  refuse(proposals: readonly Proposal[], fault: FaultCode): void {
    for (const { id, command } of proposals) {
      if (id === INTERNAL) this.#options.onNotProposed(command);
      else this.#options.onFault(id, fault);
    }
  }

  /** The request of this member that an entry carries, which is applied now. */
  end(data: Uint8Array): Request | undefined {
    const number = this.#envelopes.requestOf(data);
    return number === undefined ? undefined : this.#proposals.end(number);
  }

  /**
   * The first entry of a term is applied: nothing proposed in an earlier one can still be, so it may
   * be proposed again. That is left to `proposeHeld`.
   */
  endTermsBefore(term: number, nowMs: number): void {
    for (const request of this.#proposals.endBefore(term)) {
      const isCommand = request.kind === 'command' && request.id !== INTERNAL;
      if (isCommand && nowMs < request.holdUntilMs) this.#proposals.hold(request);
      else this.#drop(request, 'leader-changed');
    }
  }

  /** The leader did not take a message with proposals, and never will. */
  refused(message: number, reason: ProposalRefusal, nowMs: number): void {
    for (const request of this.#proposals.endForwarded(message)) {
      this.#holdOrDrop(request, reason, nowMs);
    }
  }

  /** Entries were skipped: whose were among them is not known, so the outcome of all is open. */
  skipped(): void {
    this.#giveUp(this.#proposals.endAll(), 'timeout');
  }

  tick(nowMs: number): void {
    this.#giveUp(this.#proposals.endOverdue(nowMs), 'timeout');
    this.#noticeLeaderless(nowMs);
    this.proposeHeld(nowMs);
  }

  /** To be called when there is another leader, or it has applied its first entry. */
  proposeHeld(nowMs: number): void {
    const held = this.#proposals.takeHeld();
    if (held.length === 0) return;
    const commands = held.filter(({ kind }) => kind === 'command');
    if (commands.length > 0) this.#submit(commands, nowMs);
    // Of changes of members there is one at a time: each is a batch of its own.
    for (const request of held)
      if (request.kind === 'configuration') this.#submit([request], nowMs);
  }

  /** Hands requests to Raft as one batch of entries. */
  #submit(requests: readonly Request[], nowMs: number): void {
    const first = this.#proposals.reserve(requests.length);
    const outcome = this.#raft.propose(
      requests.map((request, at) => ({
        kind: request.kind,
        data: this.#seal(first + at, request),
      })),
    );
    if (!outcome.accepted) {
      for (const request of requests) this.#holdOrDrop(request, outcome.reason, nowMs);
      return;
    }
    const deadlineMs = nowMs + this.#options.requestTimeoutMs;
    const forwarded = outcome.kind === 'forwarded' ? outcome.request : undefined;
    const sent = { term: outcome.term, forwarded };
    requests.forEach((request, at) => {
      this.#proposals.begin(first + at, request, sent, deadlineMs);
    });
  }

  #seal(number: number, request: Request): Uint8Array {
    return request.kind === 'command'
      ? this.#envelopes.sealCommand(number, request.command, request.client)
      : this.#envelopes.sealMembership(number, request.command, request.client);
  }

  /** The request is certainly in no log; where a moment later there may be a leader, it waits for it. */
  #holdOrDrop(request: Request, reason: ProposalRefusal, nowMs: number): void {
    const fault = this.#faultOf(request, reason);
    if (fault !== undefined) this.#drop(request, fault);
    else if (request.id !== INTERNAL && nowMs < request.holdUntilMs) this.#proposals.hold(request);
    else this.#drop(request, 'no-leader');
  }

  /** Undefined when it may be different soon. */
  #faultOf(request: Request, reason: ProposalRefusal): FaultCode | undefined {
    switch (reason) {
      case 'overloaded':
        return 'too-many-requests';
      case 'change-pending':
        return 'change-pending';
      case 'not-leader': {
        const isElsewhere = request.kind === 'configuration' && this.#raft.leader !== NO_NODE;
        return isElsewhere ? 'not-leader' : undefined;
      }
      case 'transferring':
      case 'not-ready':
        return undefined;
    }
  }

  /** Ends a request that is certainly in no log, or cut off from it for good. */
  #drop(request: Request, fault: FaultCode): void {
    if (request.id !== INTERNAL) this.#options.onFault(request.id, fault);
    else if (request.kind === 'command') this.#options.onNotProposed(request.command);
  }

  /** Ends requests whose entries may still take effect. */
  #giveUp(requests: readonly Request[], fault: FaultCode): void {
    for (const { id } of requests) if (id !== INTERNAL) this.#options.onFault(id, fault);
  }

  /**
   * Without a leader for an election timeout, whoever waits is told, rather than kept until the last
   * moment: another member may know more.
   */
  #noticeLeaderless(nowMs: number): void {
    if (this.#raft.leader !== NO_NODE) {
      this.#leaderlessSinceMs = undefined;
      return;
    }
    this.#leaderlessSinceMs ??= nowMs;
    if (nowMs - this.#leaderlessSinceMs < this.#options.electionTimeoutMs) return;
    this.#giveUp(this.#proposals.endAll(), 'timeout-due-to-leader-fail');
  }
}
