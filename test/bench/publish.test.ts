/** What the bench writes into the documentation. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../support/servers.ts';
import { plotsOf } from './plots.ts';
import { putBetween } from './publish.ts';
import type { Result } from './results.ts';

const page = readFileSync(join(projectRoot, 'server/docs/speed.md'), 'utf8');

const putAt = (system: string, concurrency: number, operationsPerSecond: number): Result => ({
  workload: 'put',
  title: 'put & get <256 B>',
  concurrency,
  members: 1,
  system,
  ops: operationsPerSecond,
  repetitions: 1,
  measured: { operationsPerSecond },
});

test('the page keeps its text, and what was generated before goes', () => {
  const once = putBetween(page, 'the old figures');
  const twice = putBetween(once, 'the new figures');
  expect(twice).toContain('the new figures');
  expect(twice).not.toContain('the old figures');
  expect(putBetween(twice, 'the old figures')).toBe(once);
  expect(() => putBetween('no markers', 'text')).toThrow(/must have/);
});

test('plots are drawn of what there is, to scale', () => {
  const plots = plotsOf([
    putAt('conclave', 1, 1_000),
    putAt('conclave', 128, 100_000),
    putAt('etcd', 128, 1_000),
  ]);
  expect(plots.map((plot) => plot.file)).toEqual(['speed-rates.svg', 'speed-puts.svg']);
  const [bars] = plots;
  expect(bars?.svg).toContain('put &amp; get &lt;256 B&gt;');
  const widths = [...(bars?.svg ?? '').matchAll(/<rect x="306" [^>]*width="([\d.]+)"/g)];
  // From 100 to 100,000 on a logarithmic scale: a third, all, a third.
  expect(widths.map(([, width]) => Number(width))).toEqual([146, 438, 146]);
});
