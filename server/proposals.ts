/**
 * Requests on their way through the log, by the number that their entry carries.
 *
 * One is under way from when an entry with its number may be in somebody's log until that entry is
 * applied here, or it is sure that it never will be. One is held while it is sure that there is no
 * such entry: it may be proposed again, under a new number.
 */
import type { ClientCall } from './clients/call.ts';
import type { Command } from './command.ts';
import type { MembershipCommand } from './membership.ts';

export type Request = {
  /** The host's name for it; 0 when nobody waits. */
  readonly id: number;
  readonly client: ClientCall | undefined;
  /** Proposed again until then, as long as it is sure that it was not appended. */
  readonly holdUntilMs: number;
} & (
  | { readonly kind: 'command'; readonly command: Command }
  | { readonly kind: 'configuration'; readonly command: MembershipCommand }
);

/** In which term it was proposed and, unless this member led, Raft's number for the message. */
export type Sent = { readonly term: number; readonly forwarded: number | undefined };

type UnderWay = {
  readonly request: Request;
  readonly sent: Sent;
  readonly deadlineMs: number;
};

export class Proposals {
  #nextNumber = 1;
  /** In order of number, of term and of deadline alike. */
  readonly #underWay = new Map<number, UnderWay>();
  #held: Request[] = [];

  /** So many numbers in a row, of which the first is returned; none ever comes again. */
  reserve(count: number): number {
    const first = this.#nextNumber;
    this.#nextNumber += count;
    return first;
  }

  begin(number: number, request: Request, sent: Sent, deadlineMs: number): void {
    this.#underWay.set(number, { request, sent, deadlineMs });
  }

  /** Ends the request of an entry that is applied; undefined when nobody waits for it any more. */
  end(number: number): Request | undefined {
    const request = this.#underWay.get(number)?.request;
    if (request !== undefined) this.#underWay.delete(number);
    return request;
  }

  /**
   * Ends all that were proposed before a term, once an entry of that term is applied: terms never go
   * back along a log, so none of their entries can follow.
   */
  endBefore(term: number): readonly Request[] {
    return this.#endWhile(({ sent }) => sent.term < term);
  }

  /** Ends all whose deadline has passed. What comes of their entries is not known. */
  endOverdue(nowMs: number): readonly Request[] {
    return this.#endWhile(({ deadlineMs }) => deadlineMs <= nowMs);
  }

  endAll(): readonly Request[] {
    return this.#endWhile(() => true);
  }

  /** Ends those of a message that the leader did not take, and never will. */
  endForwarded(message: number): readonly Request[] {
    const ended: Request[] = [];
    for (const [number, { request, sent }] of this.#underWay) {
      if (sent.forwarded !== message) continue;
      this.#underWay.delete(number);
      ended.push(request);
    }
    return ended;
  }

  hold(request: Request): void {
    this.#held.push(request);
  }

  /** Takes those that may be proposed again. */
  takeHeld(): readonly Request[] {
    if (this.#held.length === 0) return NONE;
    const held = this.#held;
    this.#held = [];
    return held;
  }

  #endWhile(isOver: (one: UnderWay) => boolean): readonly Request[] {
    const ended: Request[] = [];
    for (const [number, one] of this.#underWay) {
      if (!isOver(one)) break;
      this.#underWay.delete(number);
      ended.push(one.request);
    }
    return ended;
  }
}

const NONE: readonly Request[] = [];
