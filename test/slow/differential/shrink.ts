/**
 * Makes a failing sequence short: removes blocks of steps, halving the block, for as long as the
 * same difference remains (delta debugging, Zeller and Hildebrandt 2002).
 */
import type { Step } from '../../support/generators/step.ts';
import type { Finding, PairOfServers } from './pair.ts';

export async function shrink(
  servers: PairOfServers,
  steps: readonly Step[],
  finding: Finding,
  budgetMs: number,
): Promise<{ readonly steps: readonly Step[]; readonly finding: Finding }> {
  const deadlineMs = performance.now() + budgetMs;
  let best = { steps: steps.slice(0, finding.difference.at + 1), finding };
  let block = Math.ceil(best.steps.length / 2);
  while (block >= 1 && performance.now() < deadlineMs) {
    let removed = false;
    for (let start = 0; start < best.steps.length && performance.now() < deadlineMs; ) {
      const fewer = [...best.steps.slice(0, start), ...best.steps.slice(start + block)];
      const again = await servers.run(fewer);
      if (again?.difference.signature === finding.difference.signature) {
        best = { steps: fewer, finding: again };
        removed = true;
      } else start += block;
    }
    if (!removed || block > 1) block = block === 1 ? 0 : Math.floor(block / 2);
  }
  return best;
}
