/** What this machine offers for breaking things, each found out by using it once. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { LoopDisk } from '../slow/crash/loop-disk.ts';
import { commandExists } from '../support/process.ts';
import { noteDisk } from './ledger.ts';

const run = promisify(execFile);

export type Facility = 'namespaces' | 'disks' | 'strace';
/** Why a facility is missing, or undefined when it is there. */
export type Facilities = Readonly<Record<Facility, string | undefined>>;

/** Packages that provide everything on Debian and Ubuntu. */
export const packages = 'nftables iproute2 strace gcc libc6-dev e2fsprogs util-linux';

export async function probeFacilities(): Promise<Facilities> {
  return {
    namespaces: await missing(probeNamespaces),
    disks: await missing(probeDisks),
    strace: await missing(probeStrace),
  };
}

async function missing(probe: () => Promise<void>): Promise<string | undefined> {
  try {
    await probe();
    return undefined;
  } catch (error) {
    const [line] = (error instanceof Error ? error.message : String(error)).split('\n');
    return line;
  }
}

function need(...commands: readonly string[]): void {
  for (const command of commands)
    if (!commandExists(command) && !commandExistsForRoot(command))
      throw new Error(`${command} is not installed: apt-get install ${packages}`);
}

/** Administrators' commands are not on everybody's path. */
function commandExistsForRoot(command: string): boolean {
  const path = process.env['PATH'] ?? '';
  process.env['PATH'] = `${path}:/usr/sbin:/sbin`;
  if (commandExists(command)) return true;
  process.env['PATH'] = path;
  return false;
}

async function probeNamespaces(): Promise<void> {
  need('ip', 'nft', 'nsenter');
  if (process.getuid?.() !== 0) throw new Error('network namespaces need root');
  const name = `cvp${process.pid.toString(36)}`;
  await run('ip', ['netns', 'add', name]);
  try {
    await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    await run('ip', ['link', 'add', name, 'type', 'bridge']);
    await run('ip', ['link', 'del', name]);
    await run('nsenter', [`--net=/run/netns/${name}`, 'nft', 'add', 'table', 'inet', 'probe']);
  } finally {
    await run('ip', ['netns', 'del', name]);
  }
}

async function probeDisks(): Promise<void> {
  need('gcc', 'mkfs.ext4', 'mount', 'umount', 'truncate', 'fallocate');
  const disk = await LoopDisk.create();
  noteDisk(disk);
  await disk.unmount();
}

async function probeStrace(): Promise<void> {
  need('strace');
  await run('strace', ['-qq', '-e', 'trace=getpid', '-e', 'inject=getpid:error=EIO', 'true']);
}
