/** A write every few milliseconds, whatever became of the ones before: what an outage looks like. */
import { within } from '../../support/wait.ts';
import type { WireClient } from '../../support/wire-client.ts';

const intervalMs = 10;
const callTimeoutMs = 5_000;
const outageTimeoutMs = 30_000;

type Probe = { readonly sent: number; readonly acknowledged: number };

export class WriteProbe {
  readonly #acknowledged: Probe[] = [];
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Set<Promise<void>>();
  /** Called at every acknowledgement. */
  #notify: (() => void) | undefined;
  #count = 0;

  /** The clients take turns. */
  constructor(clients: readonly WireClient[]) {
    this.#timer = setInterval(() => {
      const client = clients[this.#count++ % clients.length];
      if (client === undefined) throw new Error('a probe needs a client');
      const call = this.#probe(client).finally(() => this.#underWay.delete(call));
      this.#underWay.add(call);
    }, intervalMs);
  }

  async #probe(client: WireClient): Promise<void> {
    const sent = performance.now();
    try {
      const value = Buffer.from(`${sent}`);
      const signal = AbortSignal.timeout(callTimeoutMs);
      await client.kv.put({ key: Buffer.from('probe'), value }, { signal });
      this.#acknowledged.push({ sent, acknowledged: performance.now() });
      this.#notify?.();
    } catch {
      // Part of the outage.
    }
  }

  /** Resolves after `count` more acknowledgements of writes sent from `from` on. */
  async working(from: number, count: number): Promise<void> {
    const isDone = () => this.#acknowledged.filter(({ sent }) => sent >= from).length >= count;
    await within(
      new Promise<void>((resolve) => {
        const look = () => {
          if (isDone()) resolve();
        };
        this.#notify = look;
        look();
      }),
      outageTimeoutMs,
      'an outage',
    );
  }

  /** The longest time between two acknowledgements in [from, to], in milliseconds. */
  longestGap(from: number, to: number): number {
    const times = this.#acknowledged.map(({ acknowledged }) => acknowledged).sort((a, b) => a - b);
    const before = times.findLast((time) => time < from) ?? from;
    const relevant = [before, ...times.filter((time) => time >= from && time <= to)];
    return Math.max(0, ...relevant.slice(1).map((time, index) => time - (relevant[index] ?? time)));
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }
}
