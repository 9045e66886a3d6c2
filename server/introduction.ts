/**
 * A member tells the cluster its name, where clients reach it and which data directory it has, until
 * the cluster knows.
 */
import type { Logger } from 'pino';
import { Fault } from './faults.ts';
import type { LocalMember } from './local-member.ts';
import type { Node } from './node.ts';

export type Introduced = {
  readonly incarnation: bigint;
  readonly clientUrls: readonly string[];
  /** Given where a member on its own may move; others are told by `member update`. */
  readonly peerUrls: readonly string[];
};

export class Introduction {
  readonly #member: LocalMember;
  readonly #node: Node;
  readonly #logger: Logger;
  #self: Introduced | undefined;
  #running: Promise<void> | undefined;

  constructor(member: LocalMember, node: Node, logger: Logger) {
    this.#member = member;
    this.#node = node;
    this.#logger = logger;
  }

  /** Resolves after the first attempt; `check` makes the others. */
  begin(self: Introduced): Promise<void> {
    this.#self = self;
    this.check();
    return this.#running ?? Promise.resolve();
  }

  /** Called every tick. */
  check(): void {
    const self = this.#self;
    if (self === undefined || this.#running !== undefined || this.#member.leader === 0n) return;
    if (this.#member.isStopping || this.#isKnown(self)) return;
    this.#running = this.#introduce(self)
      .catch((error: unknown) => {
        if (error instanceof Fault) return;
        this.#logger.warn({ err: error }, 'cannot introduce this member to the cluster');
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  #isKnown({ incarnation, clientUrls, peerUrls }: Introduced): boolean {
    const { members, memberId, name } = this.#member;
    // One that joins waits until it hears of itself.
    if (members.length === 0 && !this.#member.isLeader) return true;
    const known = members.find(({ id }) => id === memberId);
    if (known === undefined) return members.length > 0;
    return (
      known.name === name &&
      known.incarnation === incarnation &&
      isSame(known.clientUrls, clientUrls) &&
      !this.#hasMoved(known.peerUrls, peerUrls)
    );
  }

  #hasMoved(known: readonly string[], urls: readonly string[]): boolean {
    return this.#member.members.length === 1 && urls.length > 0 && !isSame(known, urls);
  }

  async #introduce({ incarnation, clientUrls, peerUrls }: Introduced): Promise<void> {
    const { memberId, name } = this.#member;
    if (this.#member.members.length === 0) {
      // What earlier versions wrote may lack the list of the one member.
      const members = [{ id: memberId, name, peerUrls }];
      await this.#node.proposeMembership({ kind: 'bootstrap', members });
    }
    await this.#member.propose({ kind: 'introduce', memberId, name, clientUrls, incarnation });
    const known = this.#member.members.find(({ id }) => id === memberId);
    if (known !== undefined && this.#hasMoved(known.peerUrls, peerUrls)) {
      await this.#member.propose({ kind: 'member-update', memberId, peerUrls });
    }
  }
}

const isSame = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((url, index) => url === b[index]);
