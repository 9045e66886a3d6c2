/**
 * Every client watches everything, from where it was, several times at once, so that its watches share
 * one at the server whenever they stand at the same place: held against what the members published.
 */
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { KeyValue } from '../../../../sdk/kv.ts';
import type { WatchEvent as SdkEvent } from '../../../../sdk/watch.ts';
import type { Entry } from '../../../lin/store.ts';
import {
  checkWatchRun,
  type WatchEvent,
  WatchLog,
  type WatchResponse,
} from '../../../lin/watch.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import type { ClientContext, Workload } from './workload.ts';

const watchesOfClient = 3;

type Run = { readonly name: string; readonly from: number; readonly responses: WatchResponse[] };

export class WatchWorkload implements Workload {
  readonly #runs: Run[] = [];

  async run(client: ClientContext): Promise<void> {
    const watches = Array.from({ length: watchesOfClient }, (_, index) =>
      this.#watch(client, index),
    );
    await Promise.all(watches);
  }

  async #watch(client: ClientContext, index: number): Promise<void> {
    let next = 2;
    while (!client.isEnding()) {
      const name = `${client.name}, watch ${index} from ${next}`;
      const run: Run = { name, from: next, responses: [] };
      this.#runs.push(run);
      try {
        next = await this.#follow(client, run);
      } catch (error) {
        if (!isConclaveError(error)) throw error;
        next = reached(run) + 1;
      }
      await client.pause(client.knobs.meanPauseMs);
    }
  }

  check(log: CommitLog): void {
    const watchLog = new WatchLog(log.commits);
    for (const { name, from, responses } of this.#runs) {
      const request = { startRevision: from, matches: () => true, withPrevious: false };
      const [wrong] = checkWatchRun(watchLog, { name, request, responses });
      hold(wrong === undefined, 15, () => `${name}: ${wrong}`);
    }
  }

  /** Until the end, or until the client turns to something else for a while. */
  async #follow({ conclave, choose, ending }: ClientContext, run: Run): Promise<number> {
    const watch = conclave.kv.watch(
      { prefix: '' },
      { from: BigInt(run.from), progress: choose.below(2) === 1, signal: ending },
    );
    for await (const notice of watch) {
      const revision = Number(notice.revision);
      if (notice.type === 'reset') return revision + 1;
      if (notice.type === 'progress') run.responses.push({ kind: 'progress', revision });
      else run.responses.push({ kind: 'events', revision, events: notice.events.map(eventOf) });
      if (choose.below(100) === 99) break;
    }
    return reached(run) + 1;
  }
}

function reached({ from, responses }: Run): number {
  const last = responses.findLast((response) => response.kind === 'events');
  return last?.kind === 'events' ? last.revision : from - 1;
}

function eventOf({ type, kv }: SdkEvent): WatchEvent {
  return {
    type,
    key: kv.key,
    entry: type === 'put' ? entryOf(kv) : undefined,
    revision: Number(kv.modRevision),
  };
}

function entryOf(kv: KeyValue): Entry {
  return {
    value: Buffer.from(kv.value).toString(),
    createRevision: Number(kv.createRevision),
    modRevision: Number(kv.modRevision),
    version: Number(kv.version),
    lease: kv.lease,
  };
}
