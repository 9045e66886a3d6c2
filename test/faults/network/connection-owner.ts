/** Which process opened a connection on the loopback, from what Linux tells about sockets. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

const addressColumn = 1;
const inodeColumn = 9;

/** The key of the process that owns the socket bound to the local port; `pids` by key. */
export function connectionOwner(
  port: number,
  pids: ReadonlyMap<number, number>,
): number | undefined {
  const inode = inodeOf(port);
  if (inode === undefined) return undefined;
  for (const [key, pid] of pids) if (ownsSocket(pid, inode)) return key;
  return undefined;
}

function inodeOf(port: number): string | undefined {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  for (const table of ['/proc/net/tcp', '/proc/net/tcp6'])
    for (const line of readFileSync(table, 'utf8').split('\n').slice(1)) {
      const columns = line.trim().split(/\s+/);
      if (columns[addressColumn]?.endsWith(wanted) === true) return columns[inodeColumn];
    }
  return undefined;
}

function ownsSocket(pid: number, inode: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((descriptor) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${descriptor}`) === `socket:[${inode}]`;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}
