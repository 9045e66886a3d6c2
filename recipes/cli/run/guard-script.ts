/**
 * The few lines of POSIX sh that stand between the wrapper and the command, so that the command
 * cannot outlive the wrapper. File descriptor 3 is a socket whose other end only the wrapper holds:
 * end of file on it means that the wrapper is gone, however it died.
 */

/** Every catchable signal that may be sent to the group and ends a process by default. */
const SIGNALS = 'HUP INT QUIT USR1 USR2 PIPE ALRM TERM VTALRM PROF';

/**
 * The shell leads the session and group, the reader and the command are its children. A caught
 * signal (`trap :`) is back to its default in the command, an ignored one (`trap ''`) would not be,
 * hence the two forms. The shell's own stderr is silenced: it would report "Terminated".
 *
 * When the command ends its code goes to the wrapper, then whatever it left running in the group is
 * killed together with the shell. The reader is reaped first, so that no orphan is left to a first
 * process that does not wait for strangers (a container without an init).
 */
export const groupScript = `exec 4>&2 2>/dev/null
trap : ${SIGNALS}
(
  trap '' ${SIGNALS}
  exec >/dev/null 4>&-
  read -r _
  kill -KILL 0
) <&3 &
reader=$!
( exec "$@" 2>&4 3>&- 4>&- )
code=$?
echo "$code" >&3
kill -KILL $reader
wait $reader
kill -KILL 0
`;

/**
 * On a terminal the command stays in the wrapper's group, so the guard may kill only the command
 * itself. It is orphaned at once: a program that waits for all its children must not meet it.
 */
export const foregroundScript = `command=$$
(
  (
    trap '' ${SIGNALS}
    read -r _ || kill -KILL $command
  ) <&3 >/dev/null 2>&1 &
)
exec "$@" 3>&-
`;
