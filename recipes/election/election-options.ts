/** What an election can be told, and what is made of it. */
import { type Codec, encodeWith, json } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { checkMeta } from '../../sdk/session-meta.ts';
import { durationOfAtLeast, parsePeriod } from '../common/durations.ts';
import { checkBoolean, checkOptions, type Known } from '../common/option-checks.ts';
import { lineTiming } from '../line/line-membership.ts';
import { encodeLineRecord, type Meta, shownMeta } from '../line/line-record.ts';
import { electionPrefix, etcdLockPrefix } from '../names.ts';
import { type ElectionKeys, electionKeys, type Layout } from './candidates.ts';
import type { PriorityTiming } from './standing.ts';

export type ElectionOptions<T> = {
  /** How values are written. @default JSON */
  readonly codec?: Codec<T>;
  /** Shown beside this candidate, with the session's own meta. */
  readonly meta?: Meta;
  /** How often a candidate reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
  /**
   * Where the keys are: 'etcd' stands in one election with `etcdctl elect` and etcd's own clients of the
   * same name. There names are not escaped, values are bare, and nobody has a priority. @default
   * 'conclave'
   */
  readonly layout?: Layout;
  /**
   * Chooses the form by priority: the highest leads, of equal ones the first that came. A whole number,
   * which candidates may have different ones of; but each must have one, or none of them: MISMATCH.
   * @default the form "first come, first served"
   */
  readonly priority?: number;
  /** Asks leaders of lower priority to make way, instead of waiting for a vacancy. @default false */
  readonly preferred?: boolean;
  /**
   * How long a request to make way must stand, without a break, before this candidate heeds it when it
   * leads. Keeps a candidate that comes and goes from moving the leadership about. @default '5s'
   */
  readonly preemptAfter?: Duration;
  /** At a vacancy, the head start that each rank has over the next. @default '200ms' */
  readonly vacancyStep?: Duration;
};

const knownOptions: Known<ElectionOptions<unknown>> = {
  codec: true,
  meta: true,
  recheck: true,
  layout: true,
  priority: true,
  preferred: true,
  preemptAfter: true,
  vacancyStep: true,
};

/** A term that is shorter does not pay for watches. */
const followAfterMs = 250;

export class ElectionSettings<T> {
  readonly codec: Codec<T>;
  readonly keys: ElectionKeys;
  readonly recheckMs: number | undefined;
  readonly priority: number | undefined;
  readonly preferred: boolean;
  readonly timing: PriorityTiming;
  readonly #meta: Meta;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(name: string, options: ElectionOptions<T>) {
    checkOptions<ElectionOptions<T>>(options, knownOptions);
    const { layout = 'conclave', priority, preferred = false } = options;
    if (layout !== 'conclave' && layout !== 'etcd') {
      throw invalidArgument('layout', layout, "'conclave' or 'etcd'");
    }
    if (priority !== undefined && !Number.isSafeInteger(priority)) {
      throw invalidArgument('priority', priority, 'a whole number');
    }
    if (priority !== undefined && layout === 'etcd') {
      throw invalidArgument('priority', priority, "left out in the layout 'etcd'");
    }
    for (const field of ['preferred', 'preemptAfter', 'vacancyStep'] as const) {
      if (options[field] !== undefined && priority === undefined) {
        throw invalidArgument(field, options[field], "left out, unless 'priority' is given");
      }
    }
    checkBoolean(preferred, 'preferred');
    this.codec = options.codec ?? json<T>();
    const { meta = {} } = options;
    checkMeta(meta);
    this.#meta = meta;
    const prefix = layout === 'etcd' ? etcdLockPrefix(name) : electionPrefix(name);
    this.keys = electionKeys(prefix, layout);
    this.priority = priority;
    this.preferred = preferred;
    if (options.recheck !== undefined) this.recheckMs = parsePeriod(options.recheck, 'recheck');
    const { preemptAfter = '5s', vacancyStep = '200ms' } = options;
    this.timing = {
      recheckMs: this.recheckMs ?? lineTiming.recheckMs,
      followAfterMs,
      vacancyStepMs: durationOfAtLeast(vacancyStep, 'vacancyStep', '1ms'),
      preemptAfterMs: parseDuration(preemptAfter, 'preemptAfter'),
    };
  }

  /** How a candidate that joins now writes its values. */
  encoder(session: Session): (value: T) => string | Uint8Array {
    if (this.keys.layout === 'etcd') return (value) => encodeWith(this.codec, value);
    const { client } = session;
    const { priority } = this;
    const content = {
      sinceMs: client.clock.wallMs(),
      meta: shownMeta(session, this.#meta),
      terms: priority === undefined ? {} : { priority },
    };
    return (value) => encodeLineRecord({ ...content, value: encodeWith(this.codec, value) });
  }
}
