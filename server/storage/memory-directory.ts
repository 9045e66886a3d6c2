/** What a data directory is on a disk, in memory, with crashes: for tests and the simulator. */
import type { Recovered, StateReader } from '../ports.ts';
import type { Configuration } from '../raft/configuration.ts';
import { agreementOf } from './agreement.ts';
import { type DurabilitySchedule, MemoryLog, MemoryState } from './memory.ts';
import { MemoryInbox, MemoryOutbox, MemoryPeerBook } from './memory-transfer.ts';
import type { SnapshotOutbox } from './transfer.ts';

export class MemoryDirectory {
  readonly state: MemoryState;
  readonly log: MemoryLog;
  readonly peers: MemoryPeerBook;
  readonly inbox = new MemoryInbox();

  constructor(options: { readonly schedule?: DurabilitySchedule } = {}) {
    this.state = new MemoryState(options);
    this.log = new MemoryLog({ ...options, afterReset: () => this.state.confirmInstalled() });
    this.peers = new MemoryPeerBook(options);
  }

  openOutbox(configurationOf: (state: StateReader) => Configuration): SnapshotOutbox {
    return new MemoryOutbox(this.state, configurationOf);
  }

  /** Loses power. See the parts for what stays. */
  crash(options: { readonly keepInFlight: boolean } = { keepInFlight: false }): void {
    this.state.crash();
    this.log.crash(options);
    this.peers.crash();
  }

  /**
   * What a start finds, after finishing an installation that a crash interrupted. Throws
   * `DataDirectoryError` when log and state do not belong together.
   */
  recover(): Recovered {
    const { state, log } = this;
    const restart = agreementOf('memory', log.recovered(), state.applied, state.installed);
    if (restart !== undefined) log.restart(restart.position, restart.hardState);
    state.confirmInstalled();
    return log.recovered();
  }
}
