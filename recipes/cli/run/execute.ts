import { exitCodes } from '../exit-codes.ts';
import { CliError } from '../failure.ts';
import { note, tell } from '../stderr.ts';
import { type Ending, ProcessTree, type TreeOptions } from './process-tree.ts';
import type { SignalRelay } from './signal-relay.ts';
import { type LossPolicy, Supervisor, type Tenure } from './supervise.ts';

export type Execution = Ending & { readonly lost: boolean };

const consequence: Record<LossPolicy['onLost'], string> = {
  term: 'stopping the command',
  kill: 'killing the command',
  notify: 'the command goes on and was sent USR1',
};

/**
 * Runs the command for as long as the right to it lasts.
 *
 * @param right what it is, for the message about its loss
 */
export async function execute(
  options: TreeOptions,
  right: string,
  tenure: Tenure,
  policy: LossPolicy,
  relay: SignalRelay,
): Promise<Execution> {
  const tree = new ProcessTree(options);
  relay.attach(tree);
  const supervisor = new Supervisor(tree, tenure, policy, (gone) => {
    const state = gone ? 'is lost' : 'will be lost: renewals fail';
    tell(
      { event: 'lost', what: right, certain: gone, onLost: policy.onLost },
      `${right} ${state}; ${consequence[policy.onLost]}`,
    );
  });
  try {
    const ending = await tree.ended;
    if (!ending.gone) {
      note('a process of the command could not be killed; others wait until the session expires');
    }
    return { ...ending, lost: supervisor.lost };
  } catch (error) {
    throw new CliError(
      `cannot start the command: ${error instanceof Error ? error.message : String(error)}`,
      exitCodes.wrapperFailed,
    );
  } finally {
    supervisor.close();
    relay.detach(tree);
  }
}
