/** A row of the table: one idea of what to measure, in some cases, each with whom to beat and by how much. */
import type { Figure, Measurement } from './measure.ts';
import type { ServerName } from './servers/server.ts';
import type { Stage } from './stage.ts';
import type { AnyTask } from './task.ts';

export type PeerName = Exclude<ServerName, 'conclave'>;

export type Goal =
  /** So many times as good as the best of these. */
  | { readonly kind: 'times'; readonly times: number; readonly of: readonly PeerName[] }
  | { readonly kind: 'atMost'; readonly limit: number }
  | { readonly kind: 'atLeast'; readonly limit: number };

export type Case = {
  /** @default the name of the row */
  readonly workload?: string;
  /** @default the title of the row */
  readonly title?: string;
  readonly members: number;
  /** Operations in flight, waiters, watchers: what the title speaks of. */
  readonly concurrency: number;
  /** What `--quick` takes in its place. @default the same */
  readonly quickConcurrency?: number;
  /** What is compared. */
  readonly figure: Figure;
  /** Those that the goal does not name are there to be seen. */
  readonly peers: readonly PeerName[];
  readonly goal?: Goal;
  /** Why the figure of a peer is not the same thing. */
  readonly remarks?: { readonly [Name in PeerName]?: string };
  /** Peers whose figure is shown, but which no ratio is taken to: they do something else. */
  readonly incomparable?: readonly PeerName[];
};

export type Settings = {
  readonly members: number;
  readonly concurrency: number;
  readonly durationMs: number;
  /** The figures are not going to be believed: do less. */
  readonly isQuick: boolean;
};

export type Row = {
  readonly name: string;
  readonly title: string;
  readonly cases: readonly Case[];
  /** Whether `--concurrency` and `--members` may ask for cases of their own. */
  readonly isAdjustable?: boolean;
  /** Who calls. @default 'node': the client process of the system */
  readonly driver?: 'node' | 'go' | 'bench';
  /** Repetitions at most, where one takes a minute. */
  readonly repetitionsMax?: number;
  /** Why it cannot be measured here. */
  readonly missing?: () => string | undefined;
  /** What takes long and is done once, before anything is measured. */
  readonly prepare?: () => Promise<void>;
  /** What client processes can be asked for. */
  readonly tasks?: readonly AnyTask[];
  /** Cases that differ by their figure only share a measurement. */
  readonly measure: (stage: Stage, settings: Settings) => Promise<Measurement>;
};
