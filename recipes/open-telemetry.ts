/**
 * The metrics of the recipes as instruments of an OpenTelemetry meter, named by its conventions. The
 * meter is taken by its shape: this package does not depend on OpenTelemetry.
 */
import { checkFunction, checkOptions } from './common/option-checks.ts';
import type { Measured, RecipeKind, RecipeMetrics } from './metrics.ts';

export type MeterAttributes = Readonly<Record<string, string>>;

type InstrumentOptions = {
  readonly description: string;
  readonly unit: string;
};

/** The part of a `Meter` of @opentelemetry/api that is used. */
export interface Meter {
  createHistogram(
    name: string,
    options: InstrumentOptions & {
      readonly advice: { readonly explicitBucketBoundaries: number[] };
    },
  ): { record(value: number, attributes: MeterAttributes): void };
  createCounter(
    name: string,
    options: InstrumentOptions,
  ): { add(value: number, attributes: MeterAttributes): void };
  createObservableGauge(
    name: string,
    options: InstrumentOptions,
  ): {
    addCallback(
      callback: (result: { observe(value: number, attributes: MeterAttributes): void }) => void,
    ): void;
  };
}

export type OpenTelemetryOptions = {
  /**
   * The attribute `conclave.name` for a name. Names such as 'orders/42' make as many time series as
   * there are names: map them to a template ('orders/:id'), or to undefined for none.
   * @default the name
   */
  readonly nameOf?: (name: string, recipe: RecipeKind) => string | undefined;
};

/** Seconds: locks are held for milliseconds, leaderships for days. */
const waitBoundaries = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
const holdBoundaries = [...waitBoundaries, 900, 3_600, 21_600, 86_400];

/**
 * Instruments, all with the attributes `conclave.recipe` and `conclave.name`:
 *
 * - `conclave.recipe.wait.duration`, histogram in s; `error.type` when it ended without.
 * - `conclave.recipe.hold.duration`, histogram in s.
 * - `conclave.recipe.contentions`, counter; `conclave.contention.kind` is wait, refused or conflict.
 * - `conclave.recipe.losses`, counter; `error.type`.
 * - `conclave.recipe.waiting`, gauge: what waits in this client now.
 * - `conclave.recipe.held`, gauge: what this client holds now; for sessions, how many are open.
 *
 * The values of `error.type` are codes of ConclaveError.
 *
 * @param meter of an SDK of OpenTelemetry: `metrics.getMeter('conclave')`
 * @throws ConclaveError INVALID_ARGUMENT
 */
export function openTelemetry(meter: Meter, options: OpenTelemetryOptions = {}): RecipeMetrics {
  checkOptions<OpenTelemetryOptions>(options, { nameOf: true });
  const { nameOf = (name: string) => name } = options;
  checkFunction(nameOf, 'nameOf');
  for (const name of ['createHistogram', 'createCounter', 'createObservableGauge'] as const) {
    checkFunction(meter?.[name], `meter.${name}`);
  }
  const waits = meter.createHistogram('conclave.recipe.wait.duration', {
    description: 'How long members waited for what they asked for.',
    unit: 's',
    advice: { explicitBucketBoundaries: waitBoundaries },
  });
  const holds = meter.createHistogram('conclave.recipe.hold.duration', {
    description: 'How long members held what they had got.',
    unit: 's',
    advice: { explicitBucketBoundaries: holdBoundaries },
  });
  const contentions = meter.createCounter('conclave.recipe.contentions', {
    description: 'How often a member found another in its way.',
    unit: '{contention}',
  });
  const losses = meter.createCounter('conclave.recipe.losses', {
    description: 'How often something held was lost.',
    unit: '{loss}',
  });
  const present = {
    waiting: observed(meter, 'conclave.recipe.waiting', {
      description: 'What members wait for now.',
      unit: '{wait}',
    }),
    held: observed(meter, 'conclave.recipe.held', {
      description: 'What members hold now.',
      unit: '{hold}',
    }),
  };
  const attributesOf = ({ recipe, name }: Measured, more: MeterAttributes = {}) => {
    // A session has no name.
    const shown = name === '' ? undefined : nameOf(name, recipe);
    return {
      'conclave.recipe': recipe,
      ...(shown === undefined ? {} : { 'conclave.name': shown }),
      ...more,
    };
  };
  return {
    waited: ({ ms, outcome, ...measured }) => {
      const failure = outcome === 'acquired' ? {} : { 'error.type': outcome };
      waits.record(ms / 1_000, attributesOf(measured, failure));
    },
    held: ({ ms, ...measured }) => holds.record(ms / 1_000, attributesOf(measured)),
    contended: ({ kind, ...measured }) => {
      contentions.add(1, attributesOf(measured, { 'conclave.contention.kind': kind }));
    },
    counted: ({ kind, change, ...measured }) => present[kind](change, attributesOf(measured)),
    lost: ({ reason, ...measured }) => {
      losses.add(1, attributesOf(measured, { 'error.type': reason }));
    },
  };
}

type Count = { value: number; readonly attributes: MeterAttributes };

/** A gauge of counts, read whenever the meter is: it costs nothing between. @returns changes a count */
function observed(meter: Meter, name: string, options: InstrumentOptions) {
  const counts = new Map<string, Count>();
  meter.createObservableGauge(name, options).addCallback((result) => {
    for (const [key, { value, attributes }] of counts) {
      result.observe(value, attributes);
      // Told once that it is nothing: names that are never used again must not add up.
      if (value === 0) counts.delete(key);
    }
  });
  return (change: number, attributes: MeterAttributes): void => {
    const key = JSON.stringify(attributes);
    const count = counts.get(key) ?? { value: 0, attributes };
    count.value += change;
    counts.set(key, count);
  };
}
