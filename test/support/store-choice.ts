/**
 * Which store the tests of the SDK and the recipes run on:
 *
 * CONCLAVE_TEST_STORE=conclave|etcd     without etcd its tests are skipped, but fail where CI is set
 * CONCLAVE_TEST_MEMBERS=1|3             three are processes of their own; so is a single etcd
 */
import { commandExists } from './process.ts';

export type StoreSystem = 'conclave' | 'etcd';
export type StoreMembers = 1 | 3;

const chosen = process.env['CONCLAVE_TEST_STORE'] ?? 'conclave';
if (chosen !== 'conclave' && chosen !== 'etcd') {
  throw new Error(`CONCLAVE_TEST_STORE must be conclave or etcd, not '${chosen}'`);
}

export const storeSystem: StoreSystem = chosen;

const size = process.env['CONCLAVE_TEST_MEMBERS'] ?? '1';
if (size !== '1' && size !== '3') {
  throw new Error(`CONCLAVE_TEST_MEMBERS must be 1 or 3, not '${size}'`);
}

export const storeMembers: StoreMembers = size === '3' ? 3 : 1;

/** A single member of conclave runs in the process of the tests, which is the fastest. */
export const isInProcess = storeSystem === 'conclave' && storeMembers === 1;

/** Why tests against the store cannot run here; undefined when they can. */
export const storeMissing: string | undefined =
  storeSystem === 'etcd' && !commandExists('etcd')
    ? 'etcd is not installed: install it (Debian: etcd-server) or unset CONCLAVE_TEST_STORE'
    : undefined;

if (storeMissing !== undefined) {
  if (process.env['CI'] !== undefined) throw new Error(storeMissing);
  process.stderr.write(`skipped: ${storeMissing}\n`);
}
