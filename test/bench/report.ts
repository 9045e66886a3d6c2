/** A run as it is kept: its results, and what is needed to read them elsewhere. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Result } from './results.ts';

export type Circumstances = {
  readonly date: string;
  readonly machine: string;
  readonly durationMs: number;
  /** What goes before the figures that count; the cold ones are taken in it. */
  readonly warmUpMs: number;
  readonly isQuick: boolean;
  /** What others took of the processors just before the run. */
  readonly othersBusyPercent: number;
};

export type SystemFacts = {
  readonly version: string;
  readonly durability: string;
};

export type Line = Result & Circumstances & SystemFacts;

/** A list, with one line of text for each object. */
export function writeLines(path: string, lines: readonly Line[]): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `[\n${lines.map((line) => JSON.stringify(line)).join(',\n')}\n]\n`);
}

export function readLines(path: string): readonly Line[] {
  const lines = JSON.parse(readFileSync(path, 'utf8')) as readonly Line[];
  if (!Array.isArray(lines) || lines.some((line) => typeof line?.workload !== 'string'))
    throw new Error(`${path} is no file of --json`);
  return lines;
}
