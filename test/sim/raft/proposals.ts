/**
 * What became of every proposal: each takes effect at most once, in the term that its asker was told,
 * and never after it was refused.
 */
import type { Entry, ProposalOutcome } from '../../../server/raft/message.ts';
import { hold } from '../engine/violation.ts';

type Asked = {
  /** The term in which it can be committed; 0 when it was refused for certain. */
  term: number;
  /** Where it was committed. */
  index: number;
};

export class ProposalLedger {
  readonly #asked: Asked[] = [];
  /** By asker and request: the ids that went with a forwarded request. */
  readonly #forwarded = new Map<string, readonly number[]>();

  get nextId(): number {
    return this.#asked.length;
  }

  add(asker: string, ids: readonly number[], outcome: ProposalOutcome): void {
    for (const id of ids) this.#asked[id] = { term: outcome.accepted ? outcome.term : 0, index: 0 };
    if (outcome.accepted && outcome.kind === 'forwarded') {
      this.#forwarded.set(`${asker} ${outcome.request}`, ids);
    }
  }

  refused(asker: string, request: number): void {
    for (const id of this.#forwarded.get(`${asker} ${request}`) ?? []) {
      const asked = this.#asked[id];
      if (asked === undefined) continue;
      hold(
        asked.index === 0,
        23,
        () => `proposal ${id} is refused, and committed at ${asked.index}`,
      );
      asked.term = 0;
    }
  }

  committed({ index, term, kind, data }: Entry): void {
    if (kind === 'no-op' || data.length < 4) return;
    const id = Buffer.from(data.buffer, data.byteOffset, data.length).readUInt32LE();
    const asked = this.#asked[id];
    hold(asked !== undefined, 23, () => `nobody proposed what is committed at ${index}`);
    hold(
      asked.index === 0,
      23,
      () => `proposal ${id} is committed twice, at ${asked.index} and ${index}`,
    );
    hold(asked.term === term, 23, () =>
      asked.term === 0
        ? `proposal ${id} was refused, and is committed at ${index}`
        : `proposal ${id} was made in term ${asked.term}, and is committed in ${term}`,
    );
    asked.index = index;
  }
}
