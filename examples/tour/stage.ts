/** What every act of the tour plays on. */
import type { Conclave } from '../../recipes/index.ts';

export type Stage = {
  readonly endpoint: string;
  /** For the files of this run; removed at its end. */
  readonly directory: string;
  readonly conclave: Conclave;
};
