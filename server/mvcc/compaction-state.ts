/** Compaction as the machine sees it: the compacted revision, and how much of it is done here. */
import type { FaultCode } from '../faults.ts';
import { limits } from '../limits.ts';
import type { Write } from '../ports.ts';
import {
  type CompactionProgress,
  compactionStep,
  decodeProgress,
  encodeProgress,
  NEVER_COMPACTED,
} from './compaction.ts';
import type { ForwardReader } from './draft.ts';
import { readFact, writeFact } from './facts.ts';
import { factKey } from './keys.ts';
import type { Revision } from './types.ts';

const NEVER = -1;
const PROGRESS_KEY = factKey('compaction-progress');

/** What one step may read, so that it does not hold others up. */
const STEP_BYTES = 256 * 1024;
const MIN_STEP_RECORDS = 8;
const FIRST_STEP_RECORDS = 64;

export class CompactionState {
  #revision: Revision = NEVER;
  #progress: CompactionProgress = NEVER_COMPACTED;
  readonly #fixedStepRecords: number | undefined;
  #stepRecords: number;

  /** Without a fixed number of records a step, the number follows their size. */
  constructor(fixedStepRecords?: number) {
    this.#fixedStepRecords = fixedStepRecords;
    this.#stepRecords = fixedStepRecords ?? FIRST_STEP_RECORDS;
  }

  get revision(): Revision {
    return this.#revision;
  }

  get finishedRevision(): Revision {
    return this.#progress.finished;
  }

  load(reader: ForwardReader): void {
    this.#revision = readFact(reader, 'compactRevision') ?? NEVER;
    const progress = reader.get(PROGRESS_KEY);
    this.#progress = progress === undefined ? NEVER_COMPACTED : decodeProgress(progress);
  }

  /** Why the store cannot be compacted to a revision. 0 is allowed once, as in etcd. */
  faultOf(revision: Revision, newest: Revision): FaultCode | undefined {
    if (revision <= this.#revision) return 'compacted';
    return revision > newest ? 'future-revision' : undefined;
  }

  /** Refuses reads below a revision from now on. What there is to remove is left to `step`. */
  schedule(revision: Revision): Write {
    this.#revision = revision;
    return writeFact('compactRevision', revision);
  }

  step(reader: ForwardReader): { readonly writes: Write[]; readonly done: boolean } {
    if (this.#progress.finished === this.#revision) return { writes: [], done: true };
    const step = compactionStep(reader, this.#revision, this.#progress, this.#stepRecords);
    this.#progress = step.progress;
    if (this.#fixedStepRecords === undefined && step.recordsRead > 0) {
      const fitting = Math.floor((STEP_BYTES * step.recordsRead) / step.bytesRead);
      this.#stepRecords = Math.min(Math.max(fitting, MIN_STEP_RECORDS), limits.readSliceKeys);
    }
    step.writes.push({ kind: 'put', key: PROGRESS_KEY, value: encodeProgress(step.progress) });
    return { writes: step.writes, done: step.progress.finished === this.#revision };
  }
}
