/** A member's log line for people: the sentence, and in brackets what it is about. */

const plumbing = new Set(['level', 'time', 'pid', 'hostname', 'name', 'msg', 'stack', 'err']);

export function readableLogLine(line: string): string {
  const record = parse(line);
  if (record === undefined || typeof record['msg'] !== 'string') return line;
  const about = Object.entries(record)
    .filter(([key]) => !plumbing.has(key))
    .map(([key, value]) => `${key} ${typeof value === 'string' ? value : JSON.stringify(value)}`);
  return about.length === 0 ? record['msg'] : `${record['msg']} (${about.join(', ')})`;
}

function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}
