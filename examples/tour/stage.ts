/** What every act of the tour plays on. */
import type { Conclave } from '../../recipes/index.ts';
import type { TourStore } from './store.ts';

export type Stage = {
  readonly store: TourStore;
  /** For processes to connect to. */
  readonly endpoint: string;
  /** For the files of this run; removed at its end. */
  readonly directory: string;
  readonly conclave: Conclave;
};
