import { afterEach, expect, test } from 'vitest';
import { Fault } from '../../server/faults.ts';
import type { Question, Reply } from '../../server/transport/transport.ts';
import { waitFor } from '../support/wait.ts';
import { introduce, openRig, type Rig } from './rig.ts';

const opened: Rig[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map(({ transport }) => transport.close()));
});

type Answer = (question: Question, from: bigint, signal: AbortSignal) => Promise<Reply>;

/** Member 1 asks member 2. */
async function pair(answer: Answer): Promise<{ readonly asking: Rig; readonly asked: Rig }> {
  const asking = await openRig(1n);
  const asked = await openRig(2n, { handlers: { answer } });
  opened.push(asking, asked);
  introduce(asking, asked);
  await waitFor('a connection', () => asking.transport.connectedMs(2n));
  return { asking, asked };
}

const options = { timeoutMs: 5_000 };

test('every question arrives as it was asked, and its reply as it was given', async () => {
  const replies: Record<string, Reply> = {
    'renew-leases': { kind: 'leases-renewed', ttlSeconds: [9_000_000_000, undefined, 5] },
    'describe-lease': {
      kind: 'lease',
      lease: { ttlSeconds: -1, grantedTtlSeconds: 60, keys: [Buffer.from('k'), Buffer.alloc(0)] },
    },
    leases: { kind: 'leases', ids: [1n, 2n ** 63n - 1n] },
    'propose-membership': { kind: 'membership-changed', index: 2 ** 52 },
  };
  const seen: [Question, bigint][] = [];
  const { asking } = await pair(async (question, from) => {
    seen.push([question, from]);
    return replies[question.kind] as Reply;
  });
  const questions: Question[] = [
    { kind: 'renew-leases', ids: [2n ** 63n - 1n, -1n, 3n] },
    { kind: 'describe-lease', id: 7n, withKeys: true },
    { kind: 'leases' },
    { kind: 'propose-membership', command: Buffer.from('command') },
  ];
  for (const question of questions) {
    expect(await asking.transport.ask(2n, question, options)).toEqual(replies[question.kind]);
  }
  expect(seen).toEqual(questions.map((question) => [question, 1n]));
});

test('that there is no such lease is an answer', async () => {
  const { asking } = await pair(async ({ kind }) =>
    kind === 'renew-leases'
      ? { kind: 'leases-renewed', ttlSeconds: [undefined] }
      : { kind: 'lease', lease: undefined },
  );
  expect(await asking.transport.ask(2n, { kind: 'renew-leases', ids: [1n] }, options)).toEqual({
    kind: 'leases-renewed',
    ttlSeconds: [undefined],
  });
  const describe = { kind: 'describe-lease', id: 1n, withKeys: false } as const;
  expect(await asking.transport.ask(2n, describe, options)).toEqual({
    kind: 'lease',
    lease: undefined,
  });
});

test('a fault travels as its code; what is no fault leaves open what happened', async () => {
  const { asking, asked } = await pair(async ({ kind }) => {
    if (kind === 'leases') throw new Error('a bug');
    throw new Fault('not-leader');
  });
  await expect(
    asking.transport.ask(2n, { kind: 'renew-leases', ids: [1n] }, options),
  ).rejects.toMatchObject({ name: 'Fault', code: 'not-leader' });
  await expect(asking.transport.ask(2n, { kind: 'leases' }, options)).rejects.toMatchObject({
    code: 'timeout',
  });
  expect(asked.warnings).toContain('a question could not be answered');
});

test('renewals of one turn travel together, and each gets its own answer', async () => {
  const signals = new Set<AbortSignal>();
  const { asking } = await pair(async (question, _, signal) => {
    signals.add(signal);
    const [id = 0n] = question.kind === 'renew-leases' ? question.ids : [];
    if (id % 3n === 0n) throw new Fault('lease-not-found');
    return { kind: 'leases-renewed', ttlSeconds: [Number(id)] };
  });
  const answers = await Promise.allSettled(
    Array.from({ length: 100 }, (_, at) =>
      asking.transport.ask(2n, { kind: 'renew-leases', ids: [BigInt(at)] }, options),
    ),
  );
  answers.forEach((answer, at) => {
    if (at % 3 === 0) expect(answer).toMatchObject({ reason: { code: 'lease-not-found' } });
    else expect(answer).toMatchObject({ value: { ttlSeconds: [at] } });
  });
  expect(signals.size).toBe(1);
});

test('renewals of very many leases are parted', async () => {
  const calls: AbortSignal[] = [];
  const { asking } = await pair(async (question, _, signal) => {
    const ids = question.kind === 'renew-leases' ? question.ids : [];
    if (!calls.includes(signal)) calls.push(signal);
    return { kind: 'leases-renewed', ttlSeconds: ids.map(() => calls.length) };
  });
  const ids = Array.from({ length: 600 }, (_, at) => BigInt(at + 1));
  const renewals = Array.from({ length: 3 }, () =>
    asking.transport.ask(2n, { kind: 'renew-leases', ids }, options),
  );
  const firsts = (await Promise.all(renewals)).map((reply) =>
    reply.kind === 'leases-renewed' ? reply.ttlSeconds[0] : undefined,
  );
  expect(firsts).toEqual([1, 1, 2]);
});

test('a question that takes too long, or is called off, ends on both sides', async () => {
  let aborted = 0;
  const { asking } = await pair(
    (_, __, signal) =>
      new Promise(() => {
        signal.addEventListener('abort', () => {
          aborted += 1;
        });
      }),
  );
  await expect(
    asking.transport.ask(2n, { kind: 'leases' }, { timeoutMs: 30 }),
  ).rejects.toMatchObject({ code: 'timeout' });
  await waitFor('the other side', () => aborted === 1 || undefined);

  const abort = new AbortController();
  const asked = asking.transport.ask(2n, { kind: 'leases' }, { ...options, signal: abort.signal });
  setImmediate(() => abort.abort());
  await expect(asked).rejects.toMatchObject({ code: 'canceled' });
  await waitFor('the other side', () => aborted === 2 || undefined);
  await expect(
    asking.transport.ask(2n, { kind: 'leases' }, { ...options, signal: abort.signal }),
  ).rejects.toMatchObject({ code: 'canceled' });
});

test('whether a question arrived is left open when the connection is lost or was not there', async () => {
  const { asking, asked } = await pair(() => new Promise(() => {}));
  const lost = { code: 'timeout-due-to-connection-lost' };
  const hanging = [
    asking.transport.ask(2n, { kind: 'leases' }, options),
    asking.transport.ask(2n, { kind: 'renew-leases', ids: [1n] }, options),
  ];
  const failed = Promise.all(hanging.map((each) => expect(each).rejects.toMatchObject(lost)));
  setTimeout(() => void asked.transport.close(), 20);
  await failed;
  await expect(asking.transport.ask(2n, { kind: 'leases' }, options)).rejects.toMatchObject(lost);
  await expect(asking.transport.ask(9n, { kind: 'leases' }, options)).rejects.toMatchObject(lost);
});
