/** What is measured, in the text form of Prometheus: the only place that needs its library. */
import { Counter, collectDefaultMetrics, Gauge, type Metric, Registry } from 'prom-client';
import type { Distribution, Measure } from '../measures.ts';
import type { Exposed } from './metrics.ts';

export type ExpositionOptions = {
  readonly measures: readonly Measure[];
  /** Event loop, garbage collector and memory of the process, from now on. */
  readonly processMetrics: boolean;
};

export class Exposition {
  readonly #registry = new Registry();

  constructor({ measures, processMetrics }: ExpositionOptions) {
    if (processMetrics) {
      collectDefaultMetrics({ register: this.#registry });
      this.#leaveOutUnmeasured();
    }
    for (const measure of measures) this.#register(measure);
  }

  /**
   * Where the delay of the event loop was not measured since the last scrape, as before the first, the
   * library tells a mean of NaN and a minimum of 292 years.
   */
  #leaveOutUnmeasured(): void {
    const mean = this.#registry.getSingleMetric(delayName('mean'));
    for (const name of ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(delayName)) {
      const metric = this.#registry.getSingleMetric(name);
      if (metric === undefined || mean === undefined) continue;
      this.#registry.removeSingleMetric(name);
      this.#registry.registerMetric(onlyWhileMeasured(name, metric, mean));
    }
  }

  async expose(): Promise<Exposed> {
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  #register(measure: Measure): void {
    if (measure.type === 'histogram') {
      this.#registry.registerMetric(histogram(measure, measure.distribution));
      return;
    }
    const { name, help, read, labelNames = [] } = measure;
    const common = { name, help, labelNames, registers: [this.#registry] };
    if (measure.type === 'gauge') {
      new Gauge({
        ...common,
        collect() {
          this.reset();
          for (const [labels, value] of read()) this.set(labels, value);
        },
      });
    } else {
      new Counter({
        ...common,
        collect() {
          this.reset();
          for (const [labels, value] of read()) this.inc(labels, value);
        },
      });
    }
  }
}

const delayName = (figure: string): string => `nodejs_eventloop_lag_${figure}_seconds`;

/**
 * All figures of the delay are taken, and the measurement begun anew, when another metric is asked, which
 * the library registers before these: so they are of one moment here.
 */
function onlyWhileMeasured(name: string, metric: Metric, mean: Metric): Metric {
  const measured = {
    name,
    get: async () => {
      const [{ value } = { value: Number.NaN }] = (await mean.get()).values;
      const found = await metric.get();
      return Number.isNaN(value) ? { ...found, values: [] } : found;
    },
  };
  return measured as unknown as Metric;
}

/** The library's own histogram takes values only one by one; a registry asks no more of a metric than this. */
function histogram({ name, help }: Measure, distribution: Distribution): Metric {
  const metric = {
    name,
    get: async () => ({
      name,
      help,
      type: 'histogram',
      aggregator: 'sum',
      values: [...valuesOf(name, distribution)],
    }),
  };
  return metric as unknown as Metric;
}

/** Each bucket counts what is in those before it as well. */
function* valuesOf(name: string, distribution: Distribution) {
  const bucket = `${name}_bucket`;
  for (const { labels, buckets, sum, count } of distribution) {
    let upTo = 0;
    for (const [index, le] of distribution.bounds.entries()) {
      upTo += buckets[index] ?? 0;
      yield { metricName: bucket, labels: { le, ...labels }, value: upTo };
    }
    yield { metricName: bucket, labels: { le: '+Inf', ...labels }, value: count };
    yield { metricName: `${name}_sum`, labels, value: sum };
    yield { metricName: `${name}_count`, labels, value: count };
  }
}
