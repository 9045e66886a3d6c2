/** The figures as tables, with what was promised beside them. */
import type { CatchUpFigure } from './catch-up.ts';
import type { GapFigure } from './gap.ts';
import { table } from './statistics.ts';

const ms = (value: number): string => `${Math.round(value)}`;

export function gapTable(figures: readonly GapFigure[]): string {
  const header = ['no writes for, ms', 'store', 'trials', 'median', 'p90', 'worst', 'promised'];
  const rows = figures.map(({ store, departure, summary }) => {
    const { median, worst } = departure.target;
    const { count } = summary;
    const measured = [summary.median, summary.p90, summary.worst].map(ms);
    return [departure.name, store, `${count}`, ...measured, `${median} / ${worst}`];
  });
  return table([header, ...rows]);
}

/** The figures of one store that miss what was promised. */
export function missedTargets(figures: readonly GapFigure[]): string[] {
  return figures.flatMap(({ departure, summary }) => {
    const { median, worst } = departure.target;
    const isMet = summary.median <= median && summary.worst <= worst;
    const promise = `promised ${median} / ${worst}`;
    return isMet
      ? []
      : [`${departure.name}: ${ms(summary.median)} / ${ms(summary.worst)} ms, ${promise}`];
  });
}

export function catchUpTable(figures: readonly CatchUpFigure[]): string {
  const header = ['a new member', 'store', 'MiB', 'seconds', 'puts/s', 'p99 before', 'p99 during'];
  const rows = figures.map((figure) => [
    'catches up',
    ...[figure.store, ms(figure.mebibytes), figure.seconds.toFixed(1), ms(figure.putsPerSecond)],
    ...[figure.before.p99.toFixed(1), figure.during.p99.toFixed(1)],
  ]);
  return table([header, ...rows]);
}
