/** Runs one command in a tree, as the run verbs do, so that a test can kill this process. */
import { ProcessTree } from '../../../recipes/cli/run/process-tree.ts';

const [mode, command = '', ...commandArguments] = process.argv.slice(2);
const tree = new ProcessTree({
  command: [command, ...commandArguments],
  environment: process.env,
  foreground: mode === 'foreground',
  ...(mode === 'no-shell' ? { shell: undefined } : {}),
});
const { exitCode } = await tree.ended;
process.exitCode = exitCode;
