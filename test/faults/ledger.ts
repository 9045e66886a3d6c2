/**
 * What a harness leaves on the machine if it is killed: processes, mounts, network namespaces and
 * links. All of it is noted in a file before it is made, taken back when the harness ends for any
 * reason it can see, and by `--clean` when it could not.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

type ProcessName = { readonly pid: number; readonly startTicks: string };
type Item =
  | { readonly kind: 'process'; readonly process: ProcessName }
  | { readonly kind: 'mount' | 'namespace' | 'link' | 'directory'; readonly name: string };
type Page = { readonly owner: ProcessName; readonly items: Item[] };

const folder = join(tmpdir(), 'conclave-faults');
const page: Page = {
  owner: nameOf(process.pid) ?? { pid: process.pid, startTicks: '' },
  items: [],
};
const path = join(folder, `${process.pid}.json`);

export function note(kind: 'mount' | 'namespace' | 'link' | 'directory', name: string): void {
  page.items.push({ kind, name });
  save();
}

/** A disk is mounted below the directory that holds its image. */
export function noteDisk({ mountPoint }: { readonly mountPoint: string }): void {
  note('mount', mountPoint);
  note('directory', dirname(mountPoint));
}

export function noteProcess(pid: number): void {
  const process = nameOf(pid);
  if (process === undefined) return;
  page.items.push({ kind: 'process', process });
  save();
}

/**
 * Takes back everything of this harness, except directories, which whoever made them removes or
 * keeps. Safe to repeat.
 */
export function releaseAll(): void {
  release({ ...page, items: page.items.filter(({ kind }) => kind !== 'directory') });
  page.items.length = 0;
  rmSync(path, { force: true });
}

/** Takes back what harnesses that are gone have left. Returns what it was, in words. */
export function cleanAfterOthers(): string[] {
  const found: string[] = [];
  mkdirSync(folder, { recursive: true });
  for (const file of readdirSync(folder)) {
    const abandoned = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Page;
    if (isRunning(abandoned.owner)) continue;
    found.push(...release(abandoned));
    rmSync(join(folder, file), { force: true });
  }
  return found;
}

/** Before the handler that removes temporary directories, which must not be mounted any more. */
process.prependListener('exit', releaseAll);

function save(): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, JSON.stringify(page));
}

function release({ items }: Page): string[] {
  const released: string[] = [];
  const first: readonly Item['kind'][] = ['process', 'mount', 'namespace', 'link', 'directory'];
  const ordered = [...items].sort((a, b) => first.indexOf(a.kind) - first.indexOf(b.kind));
  for (const item of ordered) {
    const words = releaseOne(item);
    if (words !== undefined) released.push(words);
  }
  return released;
}

function releaseOne(item: Item): string | undefined {
  try {
    if (item.kind === 'process') {
      if (!isRunning(item.process)) return undefined;
      process.kill(item.process.pid, 'SIGKILL');
      return `process ${item.process.pid}`;
    }
    if (item.kind === 'directory') {
      rmSync(item.name, { recursive: true, force: true });
      return `directory ${item.name}`;
    }
    const [command, ...rest] = {
      mount: ['umount', '-l', item.name],
      namespace: ['ip', 'netns', 'del', item.name],
      link: ['ip', 'link', 'del', item.name],
    }[item.kind] as [string, ...string[]];
    execFileSync(command, rest, { stdio: 'ignore' });
    return `${item.kind} ${item.name}`;
  } catch {
    // Gone already, which is the usual case: everything is also taken back where it was made.
    return undefined;
  }
}

/** A process id can be given out again; together with the start time it is unique. */
function nameOf(pid: number): ProcessName | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { pid, startTicks: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function isRunning(wanted: ProcessName): boolean {
  return nameOf(wanted.pid)?.startTicks === wanted.startTicks;
}
