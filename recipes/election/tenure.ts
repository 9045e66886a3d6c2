/** Leading by priority: a hold of the leader key, which can be passed on. */
import { filter } from 'rxjs';
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import { leaseOfHex } from '../../sdk/hex-id.ts';
import { StateSource } from '../../sdk/observe.ts';
import { compare, type Operations, type Txn } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { stateView, type View } from '../common/view.ts';
import { Holding, type HoldSubject, type WaitOptions, waitForGrant } from '../line/holding.ts';
import type { Grant } from '../line/line-driver.ts';
import { decodeLineRecord, lineEntry } from '../line/line-record.ts';
import { formatSequencer } from '../line/sequencer.ts';
import type { ElectionKeys } from './candidates.ts';
import { type CandidateRef, checkCandidate, type Preemption } from './leadership.ts';
import { PriorityMember } from './priority-driver.ts';
import type { Heir } from './priority-writes.ts';
import type { Standing } from './standing.ts';

export class Tenure extends Holding {
  readonly preemption$: View<Preemption>;
  readonly #keys: ElectionKeys;
  readonly #member: PriorityMember;
  readonly #asked = new StateSource<Preemption | undefined>(undefined);

  constructor(
    context: RecipeContext,
    subject: HoldSubject,
    member: PriorityMember,
    grant: Grant,
    keys: ElectionKeys,
  ) {
    super(context, subject, member, grant, undefined);
    this.#keys = keys;
    this.#member = member;
    this.preemption$ = stateView(
      this.#asked.observable.pipe(filter((asked) => asked !== undefined)),
    );
    this.onEnd(() => this.#asked.complete());
  }

  /** The term is the life of the leader key's value: the key itself passes from leader to leader. */
  override get sequencer(): string {
    return formatSequencer({ key: this.#keys.leader, modRevision: this.token });
  }

  override guard<Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
  ): Txn<Then, Else> {
    this.assertHeld();
    return txn.if(compare.modRevision(this.#keys.leader, '==', this.token));
  }

  /** @param preemption undefined when whoever asked has gone */
  asked(preemption: Preemption | undefined): void {
    this.#asked.set(preemption);
  }

  /**
   * Ends the hold here, then makes the candidate the leader: there is no moment without one.
   *
   * @throws ConclaveError NOT_FOUND when the candidate was gone: the leadership then went to whoever
   *   ranks next; or as `release`
   */
  async passTo(candidate: CandidateRef): Promise<void> {
    const heir = heirOf(candidate);
    this.assertHeld();
    if (heir.key === this.key || !heir.key.startsWith(this.#keys.prefix)) {
      throw invalidArgument('candidate', heir.key, 'another candidate of the same election');
    }
    this.#member.nominate(heir);
    await this.release();
    const { passedTo, termIsOver } = this.#member;
    if (passedTo === heir.key) return;
    if (termIsOver) {
      const message = `The term of leader '${this.key}' was over before it could be handed over`;
      throw new ConclaveError('LEADERSHIP_LOST', message);
    }
    const message = `The candidate '${heir.key}' did not stand any more; the leader has resigned`;
    throw new ConclaveError('NOT_FOUND', message);
  }
}

/** Stands, and waits to lead. @throws as `waitForHold` */
export const waitForTenure = (
  context: RecipeContext,
  subject: HoldSubject,
  standing: Standing,
  options: Pick<WaitOptions, 'signal' | 'timeoutMs'>,
): Promise<Tenure> =>
  waitForGrant<Tenure>(context, subject, options, ({ granted, ...handlers }) => {
    let tenure: Tenure | undefined;
    const member = new PriorityMember(context.session, standing, {
      ...handlers,
      granted: (grant) => {
        tenure = new Tenure(context, subject, member, grant, standing.keys);
        granted(tenure);
      },
      asked: (kv) => {
        if (kv === undefined) {
          tenure?.asked(undefined);
          return;
        }
        const { priority = 0 } = decodeLineRecord(kv.value).terms ?? {};
        tenure?.asked({ ...lineEntry(kv), priority });
      },
    });
    return member;
  });

function heirOf(candidate: CandidateRef): Heir {
  checkCandidate(candidate);
  const { key, createRevision, session } = candidate;
  return { key, createRevision, lease: leaseOfHex(session) ?? 0n };
}
