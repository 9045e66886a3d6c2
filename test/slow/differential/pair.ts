/** The reference and the subject together: started, replaced after a difference, stopped. */

import type { Step } from '../../support/generators/step.ts';
import type { SystemName } from '../../support/servers.ts';
import { type Difference, type Pair, SequenceRun, type Trace } from './driver.ts';
import { Side } from './side.ts';

export type Finding = { readonly difference: Difference; readonly trace: readonly Trace[] };

export class PairOfServers {
  readonly #subject: SystemName;
  #pair: Pair | undefined;

  constructor(subject: SystemName) {
    this.#subject = subject;
  }

  /** Runs the steps from a clean state; servers that no longer agree are replaced first. */
  async run(steps: readonly Step[]): Promise<Finding | undefined> {
    const run = await this.#begin();
    try {
      const difference = await run.run(steps);
      if (difference === undefined) return undefined;
      await this.replace();
      return { difference, trace: run.trace };
    } catch (error) {
      const trace = run.trace.map(({ step, request }) => `${step.kind} ${JSON.stringify(request)}`);
      const logs = [this.#pair?.reference, this.#pair?.subject]
        .map((side) => `${side?.server.system}: ${side?.server.process.logTail(8)}`)
        .join('\n');
      await this.replace();
      const message = error instanceof Error ? describe(error) : String(error);
      return {
        difference: {
          signature: `error: ${message.split('\n')[0]?.replace(/\d+/g, '#') ?? ''}`,
          text: `${message}\nlast requests:\n${trace.slice(-3).join('\n')}\n${logs}`,
          at: run.trace.length - 1,
        },
        trace: run.trace,
      };
    }
  }

  async #begin(): Promise<SequenceRun> {
    const run = await this.#beginOnce().catch(() => undefined);
    if (run !== undefined) return run;
    await this.replace();
    const fresh = await this.#beginOnce();
    if (fresh === undefined) throw new Error('two fresh servers disagree about their revision');
    return fresh;
  }

  async #beginOnce(): Promise<SequenceRun | undefined> {
    this.#pair ??= {
      reference: await Side.start('etcd'),
      subject: await Side.start(this.#subject),
    };
    return await SequenceRun.begin(this.#pair);
  }

  async replace(): Promise<void> {
    const pair = this.#pair;
    this.#pair = undefined;
    await Promise.all([pair?.reference.stop(), pair?.subject.stop()]);
  }
}

function describe(error: Error): string {
  return error.cause instanceof Error
    ? `${error.message}: ${describe(error.cause)}`
    : error.message;
}
