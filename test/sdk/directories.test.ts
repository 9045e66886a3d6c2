import { chmod, chown, mkdir, mkdtemp, readlink, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { socketPath } from '../../sdk/directories.ts';

const name = 'store.sock';
let base: string;
let runtime: string;
let shared: string;
let long: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'conclave-'));
  [runtime, shared, long] = [join(base, 'run'), join(base, 'tmp'), join(base, 'x'.repeat(100))];
  for (const path of [runtime, shared, long]) await mkdir(path, { mode: 0o700 });
  vi.stubEnv('XDG_RUNTIME_DIR', runtime);
  vi.stubEnv('TMPDIR', shared);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(base, { recursive: true });
});

/** Where the socket is, and through which directory one gets there. */
async function routed(): Promise<{ through: string; to: string }> {
  const path = await socketPath(long, name);
  expect(Buffer.byteLength(path)).toBeLessThan(100);
  const link = dirname(path);
  return { through: dirname(link), to: await readlink(link) };
}

test('a short path is used as it is', async () => {
  expect(await socketPath(base, name)).toBe(join(base, name));
});

describe.runIf(process.getuid !== undefined)('the way to a long path', () => {
  const fallback = () => join(shared, `conclave-${process.getuid?.()}`);

  test('is through the runtime directory of the user, each time', async () => {
    expect(await routed()).toEqual({ through: runtime, to: long });
    expect(await routed()).toEqual({ through: runtime, to: long });
  });

  test.each([
    ['others can use it', () => chmod(runtime, 0o755)],
    ['it is not there', () => rm(runtime, { recursive: true })],
    ['it is too long', () => vi.stubEnv('XDG_RUNTIME_DIR', long)],
    ['there is none', () => vi.stubEnv('XDG_RUNTIME_DIR', '')],
  ])('is through a private temporary directory when %s', async (_case, arrange) => {
    await arrange();
    expect(await routed()).toEqual({ through: fallback(), to: long });
    expect(await routed()).toEqual({ through: fallback(), to: long });
  });

  test.each([
    ['others can use', () => mkdir(fallback()).then(() => chmod(fallback(), 0o755))],
    ['is a link', () => symlink(runtime, fallback())],
  ])('is not through a temporary directory that %s', async (_case, arrange) => {
    vi.stubEnv('XDG_RUNTIME_DIR', '');
    await arrange();
    await expect(socketPath(long, name)).rejects.toThrow(fallback());
  });

  test.runIf(process.getuid?.() === 0)('nor through that of another user', async () => {
    vi.stubEnv('XDG_RUNTIME_DIR', '');
    await mkdir(fallback(), { mode: 0o700 });
    await chown(fallback(), 12_345, 12_345);
    await expect(socketPath(long, name)).rejects.toThrow(fallback());
  });

  test('is not through a link to elsewhere', async () => {
    const link = dirname(await socketPath(long, name));
    await rm(link);
    await symlink(shared, link);
    await expect(socketPath(long, name)).rejects.toThrow(link);
  });
});
