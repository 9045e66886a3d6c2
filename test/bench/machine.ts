/** Where and with what a run is made. */
import { readFileSync, statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, tmpdir, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { BenchSystem } from './systems.ts';

const tmpfsMagic = 0x01021994;
const ext4Magic = 0xef53;
const observedMs = 1_000;

export const dataFolder = process.env['SLOW_DIR'] ?? tmpdir();

/** Figures from a disk that is none would be lies. */
export function refuseMemoryDisk(): void {
  if (statfsSync(dataFolder).type === tmpfsMagic)
    throw new Error(`${dataFolder} is in memory; set SLOW_DIR to a folder on a disk`);
}

export function describeMachine(): string {
  const model = cpus()[0]?.model.trim() ?? 'unknown processor';
  const memory = `${Math.round(totalmem() / 1e9)} GB`;
  const disk = statfsSync(dataFolder).type === ext4Magic ? ', ext4' : '';
  return `${cpus().length} x ${model}, ${memory}${disk}, Linux ${release()}, Node ${process.version}`;
}

/** The share of the processors' time that is taken while the bench does nothing, in per cent. */
export async function othersBusyPercent(): Promise<number> {
  const before = processorTicks();
  await delay(observedMs);
  const after = processorTicks();
  return Math.round((100 * (after.busy - before.busy)) / Math.max(1, after.all - before.all));
}

function processorTicks(): { busy: number; all: number } {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const ticks = line.trim().split(/\s+/).slice(1, 9).map(Number);
  const all = ticks.reduce((sum, one) => sum + one, 0);
  const [, , , idle = 0, waiting = 0] = ticks;
  return { all, busy: all - idle - waiting };
}

/** Its server's version and those of its client's packages. */
export function versionsOf({ server, packages }: BenchSystem): string {
  const clients = packages.map((name) => `npm ${name} ${packageVersion(name)}`);
  return [server.version(), ...clients].join(', ');
}

function packageVersion(name: string): string {
  // Not every package lets its package.json be required, so it is looked for above its entry.
  let folder = dirname(createRequire(import.meta.url).resolve(name));
  for (; folder !== dirname(folder); folder = dirname(folder)) {
    const version = versionIn(join(folder, 'package.json'), name);
    if (version !== undefined) return version;
  }
  return 'of unknown version';
}

function versionIn(path: string, name: string): string | undefined {
  try {
    const found = JSON.parse(readFileSync(path, 'utf8')) as { name?: string; version?: string };
    return found.name === name ? found.version : undefined;
  } catch {
    return undefined;
  }
}
