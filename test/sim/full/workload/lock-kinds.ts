/** The locks that are used in the simulator, and what each promises. */
import type { MultiLockHandle } from '../../../../recipes/locks/multi-handle.ts';
import type { RwHandle } from '../../../../recipes/locks/rw-handle.ts';
import { linePrefix, lockPrefix, rwPrefix, semaphorePrefix } from '../../../../recipes/names.ts';
import type { LineRule, Place } from '../../../lin/recipes-line.ts';
import { type Held, heldBy, type Kind } from './locks.ts';
import { ignoreRefusal } from './sessions.ts';

const count = (held: readonly Place[]): string => `${held.map(({ key }) => key).join(', ')} hold`;

/** Of what a place says. */
const record = ({ value }: Pick<Place, 'value'>) =>
  JSON.parse(value) as {
    readonly mode?: string;
    readonly weight?: number;
    readonly meta?: { readonly rack?: string };
  };

const exclusive: LineRule = {
  together: (held) => (held.length > 1 ? count(held) : undefined),
  admitted: (_, ahead) => (ahead.length > 0 ? `behind ${ahead[0]?.key}` : undefined),
};

export const mutex: Kind = {
  name: 'mutex',
  lines: [{ prefix: lockPrefix('resource'), rule: exclusive }],
  uses: { areOrdered: true },
  survivesRemoval: true,
  async take(_, session, patience, recheck) {
    const lock = session.mutex('resource', { recheck });
    const taken = patience === 'try' ? await lock.tryAcquire() : await lock.acquire(patience);
    return taken && heldBy(taken);
  },
};

const readWrite: LineRule = {
  together: (held) => {
    const modes = held.map((place) => record(place).mode);
    const writers = modes.filter((mode) => mode === 'write').length;
    const upgradable = modes.filter((mode) => mode !== 'read' && mode !== 'write').length;
    const isWrong = upgradable > 1 || (writers > 0 && held.length > 1);
    return isWrong ? `${count(held)} as ${modes.join(', ')}` : undefined;
  },
  admitted: (place, ahead) => {
    const stops = (other: Place): boolean => {
      const theirs = record(other).mode;
      switch (record(place).mode) {
        case 'read':
          return theirs === 'write';
        case 'upgradable':
          return theirs !== 'read';
        default:
          return true;
      }
    };
    const other = ahead.find(stops);
    return other && `${place.value} behind ${other.value}`;
  },
};

class RwHeld implements Held {
  readonly handle: RwHandle;
  readonly guard: Held['guard'];

  constructor(handle: RwHandle) {
    this.handle = handle;
    this.guard = (txn) => handle.guard(txn);
  }

  get isHeld(): boolean {
    return this.handle.isHeld;
  }

  get mode(): string {
    return this.handle.mode;
  }

  get places(): Held['places'] {
    return [this.handle];
  }

  release(): Promise<void> {
    return this.handle.release();
  }
}

const rwModes = ['read', 'write', 'upgradable'] as const;

export const rwLock: Kind = {
  name: 'rw',
  lines: [{ prefix: rwPrefix('table'), rule: readWrite }],
  uses: {
    // Readers share, and their tokens need not rise.
    areOrdered: false,
    allows: (value, { mode }) => mode !== 'write' || record({ value }).mode === 'write',
  },
  survivesRemoval: true,
  async take({ choose }, session, patience, recheck) {
    const mode = rwModes[choose.below(3)] ?? 'read';
    const lock = session.rw('table', { recheck });
    const taken =
      patience === 'try' ? await lock.tryAcquire(mode) : await lock.acquire(mode, patience);
    return taken && new RwHeld(taken);
  },
  async whileHeld({ choose, knobs, pause }, held) {
    if (!(held instanceof RwHeld)) return;
    const { handle } = held;
    const how = choose.below(4);
    if (handle.mode === 'upgradable' && how < 3) {
      const timeout = how === 0 ? 1 + choose.exponential(knobs.meanPauseMs) : undefined;
      await handle.upgrade(timeout === undefined ? {} : { timeout }).catch(ignoreRefusal);
    } else if (handle.mode === 'write' && how < 2) {
      await handle.downgrade(how === 0 ? 'read' : 'upgradable');
    } else return;
    await pause(knobs.meanPauseMs);
  },
};

const LIMIT = 3;

const limited: LineRule = {
  admitted: (place, ahead, beside) => {
    const { limit } = JSON.parse(beside ?? '{}') as { readonly limit?: number };
    const weights = [place, ...ahead].map((each) => record(each).weight ?? 1);
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return limit === undefined || total > limit ? `${total} of ${limit} permits` : undefined;
  },
};

export const semaphore: Kind = {
  name: 'semaphore',
  lines: [
    {
      prefix: `${semaphorePrefix('slots')}line/`,
      beside: `${semaphorePrefix('slots')}limit`,
      rule: limited,
    },
  ],
  uses: { areOrdered: false },
  survivesRemoval: true,
  async take({ choose }, session, patience, recheck) {
    const weight = 1 + choose.below(2);
    const permits = session.semaphore('slots', { limit: LIMIT, recheck });
    const taken =
      patience === 'try'
        ? await permits.tryAcquire({ weight })
        : await permits.acquire({ weight, ...patience });
    return taken && heldBy(taken);
  },
  async disturb({ choose }, session) {
    await session.semaphore('slots', { limit: LIMIT }).resize(1 + choose.below(5));
  },
};

const sameRack: LineRule = {
  together: (held) => {
    const racks = new Set(held.map((place) => record(place).meta?.rack));
    return racks.size > 1 ? `${count(held)} in ${[...racks].join(', ')}` : undefined;
  },
  admitted: (place, ahead) => {
    const mine = record(place).meta?.rack;
    const other = ahead.find((each) => record(each).meta?.rack !== mine);
    return other && `${place.value} behind ${other.value}`;
  },
};

const racks = ['north', 'south'] as const;

export const customLine: Kind = {
  name: 'line',
  lines: [{ prefix: linePrefix('racks'), rule: sameRack }],
  uses: { areOrdered: false },
  survivesRemoval: true,
  async take({ choose }, session, patience, recheck) {
    const line = session.line('racks', {
      rule: 'same rack shares',
      policy: (me, ahead) => ahead.findLast(({ meta }) => meta['rack'] !== me['rack']),
      recheck,
    });
    const meta = { rack: racks[choose.below(2)] ?? 'north' };
    const taken =
      patience === 'try'
        ? await line.tryAcquire({ meta })
        : await line.acquire({ meta, ...patience });
    return taken && heldBy(taken);
  },
};

export const multiNames = ['a', 'b', 'c'] as const;

/** Some of three mutexes at once, in any order, beside holders of single ones. */
export const multiLock: Kind = {
  name: 'multi',
  lines: multiNames.map((name) => ({ prefix: lockPrefix(name), rule: exclusive })),
  uses: { areOrdered: false },
  survivesRemoval: false,
  async take({ choose }, session, patience, recheck) {
    const at = choose.below(3);
    const count = 1 + choose.below(3);
    const names = [...multiNames, ...multiNames].slice(at, at + count);
    if (count === 1) {
      const lock = session.mutex(names[0] ?? 'a', { recheck });
      const taken = patience === 'try' ? await lock.tryAcquire() : await lock.acquire(patience);
      return taken && heldBy(taken);
    }
    const locks = session.multi(names, { recheck });
    const taken = patience === 'try' ? await locks.tryAcquire() : await locks.acquire(patience);
    return taken && heldByAll(taken);
  },
};

const heldByAll = (handle: MultiLockHandle): Held => ({
  get isHeld() {
    return handle.isHeld;
  },
  places: handle.names.map((name) => ({
    sequencer: handle.sequencers.get(name) ?? '',
    token: handle.tokens.get(name) ?? 0n,
  })),
  guard: (txn) => handle.guard(txn),
  release: () => handle.release(),
});
