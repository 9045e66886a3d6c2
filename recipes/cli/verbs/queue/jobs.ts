/** The queue of a verb, and how its jobs are shown. Payloads are bytes: the command line reads none. */
import { bytes } from '../../../../sdk/codec.ts';
import type { RecipeContext } from '../../../common/context.ts';
import type { DeadLetter } from '../../../queue/dead-letters.ts';
import { Queue, type QueuedJob } from '../../../queue/queue.ts';
import { bytesFields, type JsonObject } from '../../output/json.ts';
import type { View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { bytesColumn, bytesOf } from '../../output/views.ts';

export const openQueue = (context: RecipeContext, name: string): Queue<Uint8Array> =>
  new Queue(context, name, { codec: bytes() });

export const jobJson = (job: QueuedJob<Uint8Array>): JsonObject => ({
  id: job.id,
  ...bytesFields('payload', job.data),
  attempts: job.attempts,
  pushedAt: job.pushedAt.toISOString(),
  lastError: job.lastError ?? null,
});

export const deadJobJson = (job: DeadLetter<Uint8Array>): JsonObject => ({
  ...jobJson(job),
  reason: job.reason,
  deadAt: job.deadAt.toISOString(),
});

const rawPayload: NonNullable<View['raw']> = (row) =>
  Buffer.concat([bytesOf(row, 'payload'), Buffer.from('\n')]);

export const jobView: View = {
  columns: [
    field('ID', 'id'),
    bytesColumn('PAYLOAD', 'payload'),
    field('ATTEMPTS', 'attempts'),
    field('PUSHED', 'pushedAt'),
    field('LAST ERROR', 'lastError'),
  ],
  raw: rawPayload,
};

export const deadJobView: View = {
  columns: [...jobView.columns, field('REASON', 'reason'), field('DEAD', 'deadAt')],
  raw: rawPayload,
};
