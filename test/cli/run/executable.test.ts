import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { assertExecutable } from '../../../recipes/cli/run/executable.ts';

let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-executable-'));
  for (const [name, mode] of [
    ['good', 0o755],
    ['plain', 0o644],
  ] as const) {
    writeFileSync(join(directory, name), '#!/bin/sh\n');
    chmodSync(join(directory, name), mode);
  }
  mkdirSync(join(directory, 'folder'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const verdict = (command: string, path: string): number => {
  try {
    assertExecutable(command, path);
    return 0;
  } catch (error) {
    return (error as { exitCode: number }).exitCode;
  }
};

test('looks commands up as the system does', () => {
  const path = `/nonexistent:${directory}`;
  expect(verdict('good', path)).toBe(0);
  expect(verdict('good', '/nonexistent')).toBe(127);
  expect(verdict('absent', path)).toBe(127);
  expect(verdict('plain', path)).toBe(126);
  expect(verdict('folder', path)).toBe(126);
  expect(verdict(join(directory, 'good'), '')).toBe(0);
  expect(verdict(join(directory, 'plain'), '')).toBe(126);
  expect(verdict(join(directory, 'folder'), '')).toBe(126);
  expect(verdict(join(directory, 'absent'), '')).toBe(127);
  expect(verdict('', path)).toBe(126);
});
