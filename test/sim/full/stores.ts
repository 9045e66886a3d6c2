/**
 * What a member has beside its process: the shipped log on a simulated disk, the state, and what it
 * knows of others. Killing the process leaves what was handed to the operating system; losing power
 * leaves what was flushed, and of the rest a random part.
 */
import type { PointName } from '../../../server/points.ts';
import type { Log, Random, Recovered, State } from '../../../server/ports.ts';
import { agreementOf } from '../../../server/storage/agreement.ts';
import {
  drawIncarnation,
  type Identity,
  type StoredIdentity,
} from '../../../server/storage/identity.ts';
import { MemoryState } from '../../../server/storage/memory.ts';
import {
  MemoryInbox,
  MemoryOutbox,
  MemoryPeerBook,
} from '../../../server/storage/memory-transfer.ts';
import { openWal } from '../../../server/storage/wal.ts';
import type { Stores } from '../../../server/stores.ts';
import { SimDisk } from '../../storage/sim-disk.ts';
import type { Engine } from '../engine/engine.ts';
import type { DiskFaults } from '../faults.ts';
import type { Life } from './process.ts';
import { guardedState } from './state-guard.ts';

const LONGEST_STEP_US = 2_000_000;
const WAL_PATH = '/wal';

const POINTS: Readonly<Record<string, PointName>> = {
  write: 'file-write',
  flush: 'file-flush',
  sync: 'file-sync',
  rename: 'file-rename',
  remove: 'file-remove',
  'sync directory': 'directory-sync',
};

export type StoreOptions = {
  readonly engine: Engine;
  readonly number: number;
  readonly segmentBytes: number;
  readonly meanFlushUs: number;
  readonly faults: () => DiskFaults;
  /** Dice for the salts of log files. */
  readonly random: Random;
  readonly reached: (point: PointName) => void;
};

export class MemberStores {
  /** Undefined before the first start. */
  identity: StoredIdentity | undefined;
  readonly #options: StoreOptions;
  readonly #sites;
  readonly #state: MemoryState;
  readonly #peers = new MemoryPeerBook();
  readonly #inbox = new MemoryInbox();
  #disk = new SimDisk();
  #slowUs = 0;
  #slowUntil = 0;

  constructor(options: StoreOptions) {
    this.#options = options;
    const { engine, number } = options;
    const site = (kind: string) => engine.decisions.site('disk', `${kind} ${number}`);
    this.#sites = {
      step: site('step'),
      slow: site('slow'),
      error: site('error'),
      torn: site('torn'),
      flush: site('flush'),
    };
    this.#state = new MemoryState({
      schedule: (complete) => {
        engine.after(1 + this.#sites.flush.exponential(options.meanFlushUs), () => {
          complete();
          options.reached('state-flushed');
        });
      },
    });
  }

  /** What it holds, for the checkers. */
  get state(): State {
    return this.#state;
  }

  slowDown(stepUs: number, durationUs: number): void {
    this.#slowUs = stepUs;
    this.#slowUntil = this.#options.engine.now + durationUs;
  }

  async open(identity: Identity, life: Life): Promise<Stores> {
    this.identity ??= { ...identity, incarnation: drawIncarnation() };
    const { clusterId, memberId } = this.identity;
    this.#disk.beforeStep = (step) => this.#beforeStep(step, life);
    const state = guardedState(this.#state, life, this.#options.reached);
    const { log, recovered } = await openWal({
      path: WAL_PATH,
      identity: { clusterId, memberId },
      segmentBytes: this.#options.segmentBytes,
      disk: this.#disk,
      random: this.#options.random,
      afterReset: async () => this.#state.confirmInstalled(),
    });
    const agreed = await this.#agree(log, recovered);
    const stores: Stores = {
      identity: this.identity,
      log,
      takeRecovered: () => agreed,
      state,
      peers: this.#peers,
      inbox: this.#inbox,
      openOutbox: (configurationOf) => new MemoryOutbox(this.#state, configurationOf),
      snapshot: () => Promise.reject(new Error('nobody asks for a copy of the state')),
      close: async () => log.close(),
    };
    return stores;
  }

  /** The process is gone. */
  crash(): void {
    this.#disk = this.#disk.restart();
    this.#loseMemory();
  }

  losePower(): void {
    this.#disk = this.#disk.cutPower((bound) => this.#sites.torn.below(bound));
    this.#loseMemory();
  }

  #loseMemory(): void {
    this.#state.crash();
    this.#peers.crash();
  }

  /** As the data directory does: finishes an installation that was cut short. */
  async #agree(log: Log, recovered: Recovered): Promise<Recovered> {
    const { applied, installed } = this.#state;
    const restart = agreementOf('simulation', recovered, applied, installed);
    if (restart === undefined) {
      this.#state.confirmInstalled();
      return recovered;
    }
    const { position, hardState } = restart;
    await log.reset(position, hardState);
    return { hardState, start: position, entries: [] };
  }

  async #beforeStep(step: string, life: Life): Promise<void> {
    const { engine, faults, reached } = this.#options;
    const { meanWriteUs, slowRate, errorRate } = faults();
    const point = POINTS[step];
    if (point !== undefined) reached(point);
    let takesUs = this.#sites.step.exponential(meanWriteUs);
    if (this.#sites.slow.chance(slowRate)) takesUs += this.#sites.slow.below(LONGEST_STEP_US);
    if (engine.now < this.#slowUntil) takesUs += this.#slowUs;
    // The disk goes on while the process is stopped; only the answer waits.
    await life.wait(takesUs);
    if (this.#sites.error.chance(errorRate)) throw new Error(`EIO: i/o error, ${step}`);
  }
}
