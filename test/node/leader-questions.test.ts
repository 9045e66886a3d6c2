import { expect, test } from 'vitest';
import { Fault, type FaultCode } from '../../server/faults.ts';
import { LeaderQuestions } from '../../server/leader-questions.ts';
import type { Replies, Transport } from '../../server/transport/transport.ts';
import { VirtualTime } from '../support/virtual-time.ts';

const answer = (ttlSeconds: number): Replies['renew-leases'] => ({
  kind: 'leases-renewed',
  ttlSeconds: [ttlSeconds],
});

class Rig {
  readonly time = new VirtualTime();
  leader = 2n;
  readonly asked: bigint[] = [];
  /** What each member says, the last one again and again. */
  readonly says = new Map<bigint, (FaultCode | number)[]>();
  readonly questions = new LeaderQuestions({
    self: 1n,
    leader: () => this.leader,
    ask: ((to) => this.#answer(to)) as Transport['ask'],
    clock: this.time,
    timers: this.time,
    electionTimeoutMs: 1_000,
    requestTimeoutMs: 7_000,
  });

  async #answer(from: bigint): Promise<Replies['renew-leases']> {
    this.asked.push(from);
    const answers = this.says.get(from) ?? [];
    const next = answers.length > 1 ? answers.shift() : answers[0];
    if (typeof next === 'number') return answer(next);
    throw new Fault(next ?? 'timeout');
  }

  renew(options: { readonly isRepeatable?: boolean; readonly signal?: AbortSignal } = {}) {
    const { isRepeatable = true, signal } = options;
    return this.questions.ask<'renew-leases'>(
      { kind: 'renew-leases', ids: [1n] },
      () => this.#answer(1n),
      { isRepeatable, ...(signal === undefined ? {} : { caller: { signal } }) },
    );
  }

  elect(leader: bigint): void {
    this.leader = leader;
    this.questions.leadershipChanged();
  }
}

const code = (fault: FaultCode) => ({ code: fault });

test('the leader is asked, wherever it is', async () => {
  const rig = new Rig();
  rig.says.set(2n, [20]);
  rig.says.set(1n, [10]);
  expect(await rig.renew()).toEqual(answer(20));
  rig.elect(1n);
  expect(await rig.renew()).toEqual(answer(10));
  expect(rig.asked).toEqual([2n, 1n]);
});

test('while nobody leads it waits for one election, then says so', async () => {
  const rig = new Rig();
  rig.says.set(3n, [30]);
  rig.elect(0n);
  const lucky = rig.renew();
  await rig.time.pass(900);
  rig.elect(3n);
  expect(await lucky).toEqual(answer(30));
  rig.elect(0n);
  const unlucky = rig.renew();
  const refused = expect(unlucky).rejects.toMatchObject(code('no-leader'));
  await rig.time.pass(1_000);
  await refused;
});

test('a leader that is none any more did nothing: the next one is asked', async () => {
  const rig = new Rig();
  rig.says.set(2n, ['not-leader']);
  rig.says.set(3n, [30]);
  const asked = rig.renew({ isRepeatable: false });
  await rig.time.pass(10);
  rig.elect(3n);
  expect(await asked).toEqual(answer(30));
});

test.each([true, false])('an answer that was lost: repeatable %s', async (isRepeatable) => {
  const rig = new Rig();
  rig.says.set(2n, ['timeout-due-to-connection-lost', 20]);
  const asked = rig.renew({ isRepeatable });
  const outcome = isRepeatable
    ? expect(asked).resolves.toEqual(answer(20))
    : expect(asked).rejects.toMatchObject(code('timeout-due-to-connection-lost'));
  await rig.time.pass(10);
  rig.elect(2n);
  await outcome;
});

test('a refusal is an answer', async () => {
  const rig = new Rig();
  rig.says.set(2n, ['unhealthy']);
  await expect(rig.renew()).rejects.toMatchObject(code('unhealthy'));
  expect(rig.asked).toHaveLength(1);
});

test('it is not asked for longer than a request may take', async () => {
  const rig = new Rig();
  rig.says.set(2n, ['not-leader']);
  const refused = expect(rig.renew()).rejects.toMatchObject(code('timeout'));
  for (let step = 0; step < 10; step++) {
    await rig.time.pass(900);
    rig.elect(2n);
  }
  await refused;
});

test('whoever stops waiting is let go', async () => {
  const rig = new Rig();
  rig.elect(0n);
  const abort = new AbortController();
  const refused = expect(rig.renew({ signal: abort.signal })).rejects.toThrow('enough');
  await rig.time.pass(10);
  abort.abort(new Error('enough'));
  await refused;
});
