import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The command cannot be run: the exit code is that of a shell and of GNU timeout. */
export class CommandUnusable extends Error {
  override name = 'CommandUnusable';
  /** 127: no such command; 126: there, but not executable. */
  readonly exitCode: 126 | 127;

  constructor(message: string, exitCode: 126 | 127) {
    super(message);
    this.exitCode = exitCode;
  }
}

type Finding = 'missing' | 'not-executable' | 'usable';

function inspect(path: string): Finding {
  try {
    if (!statSync(path).isFile()) return 'not-executable';
  } catch {
    return 'missing';
  }
  try {
    accessSync(path, constants.X_OK);
    return 'usable';
  } catch {
    return 'not-executable';
  }
}

/**
 * Looks the command up as `execvp` would, before anything is locked for it: a misspelt command must
 * fail at once and not after waiting for its turn.
 *
 * @throws CommandUnusable
 */
export function assertExecutable(command: string, searchPath: string): void {
  const candidates = command.includes('/')
    ? [command]
    : searchPath
        .split(delimiter)
        .map((directory) => join(directory === '' ? '.' : directory, command));
  let best: Finding = 'missing';
  for (const candidate of candidates) {
    const finding = inspect(candidate);
    if (finding === 'usable') return;
    // A directory of that name on the search path is not what the user meant.
    if (finding === 'not-executable' && (best === 'missing' || command.includes('/')))
      best = finding;
  }
  if (best === 'not-executable') {
    throw new CommandUnusable(`cannot execute '${command}': permission denied or not a file`, 126);
  }
  throw new CommandUnusable(`cannot find the command '${command}'`, 127);
}
