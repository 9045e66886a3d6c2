import { SortedState } from '../support/sorted-state.ts';
import { machineSuite } from './machine-suite.ts';

machineSuite('in memory', {
  open: async () => {
    const state = new SortedState();
    return { state, close: () => state.close() };
  },
  runs: 300,
});
