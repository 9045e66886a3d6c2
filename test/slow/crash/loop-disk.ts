/** A disk of its own in a file, whose power can be cut. */
import { execFile } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { commandExists, temporaryDirectory } from '../../support/process.ts';
import { projectRoot } from '../../support/servers.ts';
import { Skip } from '../suite.ts';

const run = promisify(execFile);
const size = '512M';

export class LoopDisk {
  readonly mountPoint: string;
  readonly #image: string;
  readonly #cutter: string;

  private constructor(folder: string) {
    this.mountPoint = join(folder, 'mounted');
    this.#image = join(folder, 'disk.img');
    this.#cutter = join(folder, 'power-cut');
  }

  /** Throws Skip where such a disk cannot be made. */
  static async create(): Promise<LoopDisk> {
    if (process.getuid?.() !== 0) throw new Skip('mounting a loop device needs root');
    for (const command of ['gcc', 'mkfs.ext4', 'mount', 'truncate'])
      if (!commandExists(command)) throw new Skip(`${command} is not installed`);
    const disk = new LoopDisk(temporaryDirectory('disk'));
    mkdirSync(disk.mountPoint);
    await run('gcc', ['-o', disk.#cutter, sourceOfCutter()]);
    await run('truncate', ['-s', size, disk.#image]);
    await run('mkfs.ext4', ['-q', '-F', disk.#image]);
    try {
      await disk.mount();
    } catch (error) {
      throw new Skip(`loop devices cannot be mounted here: ${String(error)}`);
    }
    return disk;
  }

  async mount(): Promise<void> {
    await run('mount', ['-o', 'loop', this.#image, this.mountPoint]);
  }

  async unmount(): Promise<void> {
    await run('umount', [this.mountPoint]);
  }

  /** What was not flushed is lost from here on. */
  async cutPower(): Promise<void> {
    await run(this.#cutter, [this.mountPoint]);
  }
}

/** The C source stays beside the TypeScript sources; `dist` has none of it. */
function sourceOfCutter(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  return here.includes('/dist/')
    ? join(projectRoot, 'test/slow/crash/power-cut.c')
    : join(here, 'power-cut.c');
}
