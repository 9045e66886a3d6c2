/** How a member says what happens: structured lines, on stderr unless the caller brings a logger. */
import { writeSync } from 'node:fs';
import { destination, type Logger, pino } from 'pino';

const STDERR = 2;

export function defaultLogger(): Logger {
  return pino({ name: 'conclave', level: 'warn' }, destination({ dest: STDERR, sync: true }));
}

/**
 * After a storage error the process must not go on, nor close its storage on the way out: closing
 * could mark data as flushed that never reached the disk. So it says why and aborts.
 */
export function abortProcess(logger: Logger): (error: Error) => void {
  return (error) => {
    logger.fatal({ err: error }, 'the member cannot go on; aborting');
    // A caller's logger may buffer: the reason goes out synchronously as well.
    writeSync(STDERR, `conclave: ${error.message.replace(/\.+$/, '')}. Aborting.\n`);
    process.abort();
  };
}
