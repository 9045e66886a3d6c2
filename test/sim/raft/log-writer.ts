/** The one log write of a member that may be under way. */
import type { StorageWrite } from '../../../server/raft/message.ts';
import { SECOND } from '../engine/engine.ts';
import type { RaftMember } from './member.ts';
import { type RaftWorld, TICK_US } from './world.ts';

const LONGEST_WRITE_US = 2 * SECOND;

export class LogWriter {
  readonly #world: RaftWorld;
  readonly #member: RaftMember;
  readonly #sites;
  #write: StorageWrite | undefined;
  #begunAt = 0;
  /** Writes take this much longer until `#slowUntil`. */
  #slowUs = 0;
  #slowUntil = 0;

  constructor(world: RaftWorld, member: RaftMember) {
    this.#world = world;
    this.#member = member;
    const site = (kind: string) => world.engine.decisions.site('disk', `${kind} ${member.number}`);
    this.#sites = {
      time: site('write'),
      slow: site('slow'),
      error: site('error'),
      torn: site('torn'),
      parts: site('parts'),
    };
  }

  slowDown(writeUs: number, durationUs: number): void {
    this.#slowUs = writeUs;
    this.#slowUntil = this.#world.engine.now + durationUs;
  }

  /** The write under way takes longer than an election. */
  get isLate(): boolean {
    const { engine, knobs } = this.#world;
    const electionUs = knobs.electionTicks * TICK_US;
    return this.#write !== undefined && engine.now - this.#begunAt > electionUs;
  }

  /** @returns whether the member survived. */
  begin(write: StorageWrite): boolean {
    const member = this.#member;
    if (!member.reached('before-log-write')) return false;
    if (write.snapshot !== undefined && !member.reached('before-snapshot-install')) return false;
    const { engine, diskFaults } = this.#world;
    this.#write = write;
    this.#begunAt = engine.now;
    let takesUs = this.#sites.time.exponential(diskFaults.meanWriteUs);
    if (this.#sites.slow.chance(diskFaults.slowRate)) {
      takesUs += this.#sites.slow.below(LONGEST_WRITE_US);
    }
    if (engine.now < this.#slowUntil) takesUs += this.#slowUs;
    engine.after(takesUs, () => {
      if (this.#write === write) this.#end(write);
    });
    const isConfiguration = write.entries.some(({ kind }) => kind === 'configuration');
    if (isConfiguration && !member.reached('configuration-written')) return false;
    return member.reached('during-log-write');
  }

  /** The write under way is lost, or a part of it, or only its confirmation. */
  crash(): void {
    const write = this.#write;
    this.#write = undefined;
    if (write === undefined) return;
    if (!this.#sites.torn.chance(this.#world.diskFaults.tornRate)) return;
    this.#store(write, this.#sites.parts.below(this.#member.store.partsOf(write) + 1));
  }

  #end(write: StorageWrite): void {
    const member = this.#member;
    if (this.#sites.error.chance(this.#world.diskFaults.errorRate)) {
      this.#world.engine.tell(() => `a log write of member ${member.number} fails`);
      this.#world.failed(member);
      return;
    }
    const { log } = member.store;
    const first = write.entries[0];
    const isReplacing = first !== undefined && first.index <= log.lastIndex;
    this.#store(write, member.store.partsOf(write));
    this.#write = undefined;
    if (write.snapshot !== undefined) {
      this.#world.checker.installed(member);
      if (!member.reached('after-snapshot-install')) return;
    }
    if (isReplacing && !member.reached('tail-replaced')) return;
    if (!member.reached('after-log-write')) return;
    member.input((raft) => raft.stored(write.sequence));
  }

  #store(write: StorageWrite, parts: number): void {
    const { checker, engine } = this.#world;
    const member = this.#member;
    checker.storing(member, write, parts);
    member.store.finish(write, parts);
    checker.stored(member);
    const { log } = member.store;
    engine.trace.add(member.number * 31 + log.lastIndex);
    engine.trace.add(log.hardState.term);
  }
}
