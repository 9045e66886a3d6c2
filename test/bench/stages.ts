/**
 * Each row gets members that nobody used before it. A quick run, whose figures are not believed, takes
 * the same members for all rows: starting them would take most of its time.
 */
import type { Row } from './row.ts';
import { Stage } from './stage.ts';
import type { BenchSystem } from './systems.ts';

export class Stages {
  readonly #keeps: boolean;
  readonly #kept = new Map<string, Stage>();

  constructor(keeps: boolean) {
    this.#keeps = keeps;
  }

  take(row: Row, system: BenchSystem, members: number): Stage {
    // Such rows start their members in a way of their own.
    if (!this.#keeps || row.driver === 'bench') return new Stage(system, members);
    const name = nameOf(system, members);
    const stage = this.#kept.get(name) ?? new Stage(system, members);
    this.#kept.set(name, stage);
    return stage;
  }

  /** @param isSuspect something failed on it, so that nobody else should have it */
  async giveBack(stage: Stage, isSuspect: boolean): Promise<void> {
    const name = nameOf(stage.system, stage.members);
    if (this.#kept.get(name) === stage) {
      if (!isSuspect) return;
      this.#kept.delete(name);
    }
    await stage.close();
  }

  async close(): Promise<void> {
    await Promise.all([...this.#kept.values()].map((stage) => stage.close()));
  }
}

const nameOf = (system: BenchSystem, members: number): string => `${system.name} ${members}`;
