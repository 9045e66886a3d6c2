/** Which cases of which rows are measured on which systems. */
import type { Case, PeerName, Row } from './row.ts';
import { type BenchSystem, mixtures, ownSystem } from './systems.ts';

export type Wanted = {
  readonly isQuick: boolean;
  readonly concurrencies: readonly number[] | undefined;
  readonly members: number | undefined;
};

/** Those that have no consensus, or none that is set up here. */
const aloneOnly: readonly PeerName[] = ['redis', 'nats'];

export function casesOf(row: Row, { isQuick, concurrencies, members }: Wanted): readonly Case[] {
  const onMembers = row.cases.filter((one) => members === undefined || one.members === members);
  if (row.isAdjustable !== true || (concurrencies === undefined && members === undefined)) {
    const isShort = isQuick && concurrencies === undefined;
    return onMembers
      .filter((one) => !isShort || one.goal !== undefined)
      .map((one) => (isQuick ? quick(one) : one));
  }
  const count = members ?? 1;
  const asked = concurrencies ?? [...new Set(row.cases.map((one) => one.concurrency))];
  return asked.flatMap((concurrency) => {
    const own = onMembers.filter((one) => one.concurrency === concurrency);
    return own.some((one) => one.members === count)
      ? own
      : [caseWithoutGoal(row, concurrency, count), ...own];
  });
}

const quick = (one: Case): Case => ({
  ...one,
  concurrency: one.quickConcurrency ?? one.concurrency,
});

function caseWithoutGoal(row: Row, concurrency: number, members: number): Case {
  const [first] = row.cases;
  const { remarks, incomparable } = first ?? {};
  const peers = (first?.peers ?? []).filter((one) => members === 1 || !aloneOnly.includes(one));
  return {
    ...{ members, concurrency, figure: 'operationsPerSecond', peers },
    ...(remarks === undefined ? {} : { remarks }),
    ...(incomparable === undefined ? {} : { incomparable }),
  };
}

/** The systems that a case is measured on, of those that were asked for. */
export function systemsOf(
  row: Row,
  { peers }: Case,
  chosen: readonly BenchSystem[],
): readonly BenchSystem[] {
  const names: readonly string[] = peers;
  const mixes = (row.driver ?? 'node') === 'node' && names.includes('etcd');
  return chosen.filter(
    (system) =>
      system === ownSystem || names.includes(system.name) || (mixes && mixtures.includes(system)),
  );
}
