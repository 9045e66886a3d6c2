/** One job, looked at from outside: where it is, how far it is, and what came of it. */
import type { Client } from '../../sdk/client.ts';
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { op } from '../../sdk/txn.ts';
import { fullJitterMs, pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { QueueKeys } from '../names.ts';
import { checkCodec, checkId } from './checks.ts';
import { readClaimState, readDeadState } from './job-record.ts';

export type JobView<R> =
  /** It waits: for a worker, its time, its turn or its children. */
  | { readonly state: 'waiting' }
  | {
      readonly state: 'active';
      readonly attempt: number;
      readonly worker: string;
      readonly since: Date;
      /** The handler's last note. */
      readonly progress: unknown;
    }
  /** `result` is undefined unless the workers keep results. */
  | { readonly state: 'finished'; readonly result: R | undefined }
  | { readonly state: 'dead'; readonly reason: string }
  /** No job has this id, as far as the store can tell: it is finished, or never was. */
  | { readonly state: 'unknown' };

/** The slow, jittered look that covers what a watch does not report. */
const lookEveryMs = 15_000;

/**
 * The job as it is, then each time that it changes; what changes quickly may be told as one. Ends when
 * the job is finished or unknown.
 *
 * @throws ConclaveError INVALID_ARGUMENT, CODEC
 */
export async function* followJob<R>(
  client: Client,
  keys: QueueKeys,
  id: string,
  codec: Codec<R>,
  signal: AbortSignal,
): AsyncGenerator<JobView<R>> {
  checkId(id);
  checkCodec(codec);
  const { kv, clock, random } = client;
  const prefixes = [keys.job, keys.claim, keys.dead, keys.result, keys.ready];
  const spots = prefixes.map((prefix) => prefix + id);
  const read = kv.txn().then(...spots.map((key) => op.get(key)));
  let wasThere = false;
  let told = '';
  for (let failures = 0; !signal.aborted; ) {
    const { responses, revision } = await untilAnswered(
      client,
      () => read.commit({ signal }),
      signal,
    );
    const [record, claim, dead, result, ready] = responses as readonly (KeyValue | null)[];
    // A light job has no record as long as it is ready or claimed.
    const job = record ?? ready;
    const view = viewOf(job, claim, dead, result, wasThere, codec);
    wasThere ||= (job ?? claim) != null;
    const revisions = [job, claim, dead, result].map((entry) => entry?.modRevision ?? 0n).join();
    if (told !== revisions) yield view;
    told = revisions;
    if (view.state === 'finished' || view.state === 'unknown') return;
    const changed = linkedSignal(signal);
    const hear = async (key: string) => {
      const watch = kv.watch(key, { from: revision + 1n, signal: changed.signal });
      for await (const { type } of watch) if (type !== 'progress') return;
      throw new ConclaveError('CLOSED', 'The watch ended');
    };
    const wakes = [
      ...spots.map((key) => hear(key).then(() => true)),
      pause(clock, lookEveryMs * (0.75 + 0.5 * random()), changed.signal).then(() => true),
    ].map((wake) => wake.catch(() => false));
    const woken = await Promise.race(wakes);
    changed.abort();
    await Promise.all(wakes);
    failures = woken ? 0 : failures + 1;
    if (!woken) await pause(clock, fullJitterMs(failures, random), signal).catch(() => undefined);
  }
}

function viewOf<R>(
  job: KeyValue | null | undefined,
  claim: KeyValue | null | undefined,
  dead: KeyValue | null | undefined,
  result: KeyValue | null | undefined,
  wasThere: boolean,
  codec: Codec<R>,
): JobView<R> {
  if (claim) {
    const { attempts, worker, claimedMs, progress } = readClaimState(claim);
    const since = new Date(claimedMs);
    return { state: 'active', attempt: attempts, worker, since, progress };
  }
  if (dead) return { state: 'dead', reason: readDeadState(dead).reason };
  if (job) return { state: 'waiting' };
  if (result) return { state: 'finished', result: decodeWith(codec, result.value, result.key) };
  return wasThere ? { state: 'finished', result: undefined } : { state: 'unknown' };
}

/**
 * What came of a job, once it is finished.
 *
 * @throws ConclaveError FAILED_PRECONDITION when it is a dead letter, NOT_FOUND when no job has this id
 *   and no result is kept, ABORTED, CODEC
 */
export async function outcomeOf<R>(
  views: AsyncIterable<JobView<R>>,
  id: string,
): Promise<R | undefined> {
  for await (const view of views) {
    if (view.state === 'finished') return view.result;
    if (view.state === 'dead') {
      throw new ConclaveError('FAILED_PRECONDITION', `Job ${id} is a dead letter: ${view.reason}`);
    }
    if (view.state === 'unknown') {
      throw new ConclaveError('NOT_FOUND', `There is no job ${id}, and no result of it is kept`);
    }
  }
  throw new ConclaveError('CLOSED', 'The client was closed');
}
