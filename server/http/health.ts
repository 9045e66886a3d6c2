/**
 * Health over HTTP, in etcd's forms.
 *
 * `/health` answers for load balancers, `/livez` whether to restart the process, `/readyz` whether to
 * send it requests. A check that reads waits no longer than `timeoutMs`.
 */
import { Fault } from '../faults.ts';
import type { RangeRequest } from '../mvcc/types.ts';
import type { Member } from '../rpc/member.ts';
import { CONTEXT_DEADLINE } from '../rpc/status.ts';
import { type HttpHandler, isRead, type MountPoint, sendJson, sendText } from './router.ts';

export type HealthOptions = {
  readonly member: Member;
  /** How long a check may take. */
  readonly timeoutMs: number;
  /** Told of the outcome of every check. */
  readonly onChecked: (type: string, name: string, passed: boolean) => void;
};

/** A check passes by resolving, fails by rejecting with the reason. */
type Check = (signal: AbortSignal) => Promise<void>;

const PROBE_KEY = Buffer.from('health');

const probe: RangeRequest = {
  kind: 'range',
  key: PROBE_KEY,
  rangeEnd: new Uint8Array(0),
  limit: 1,
  revision: 0,
  sortOrder: 'none',
  sortTarget: 'key',
  keysOnly: true,
  uncounted: false,
  countOnly: false,
  minModRevision: 0,
  maxModRevision: 0,
  minCreateRevision: 0,
  maxCreateRevision: 0,
};

export function mountHealth(at: MountPoint, options: HealthOptions): void {
  const { member } = options;
  const read =
    (serializable: boolean): Check =>
    async (signal) => {
      await member.range(probe, { serializable, caller: { signal } });
    };
  const noCorruption: Check = async () => {
    if (member.alarms.some((alarm) => alarm.alarm === 'corrupt'))
      throw new Error('alarm activated: CORRUPT');
  };
  const noLearner: Check = async () => {
    if (member.isLearner) throw new Fault('not-supported-for-learner');
  };
  at.mount('/health', healthHandler(options, read));
  mountChecks(at, '/livez', options, new Map([['serializable_read', read(true)]]));
  mountChecks(
    at,
    '/readyz',
    options,
    new Map([
      ['data_corruption', noCorruption],
      ['serializable_read', read(true)],
      ['linearizable_read', read(false)],
      ['non_learner', noLearner],
    ]),
  );
}

function healthHandler(
  options: HealthOptions,
  read: (serializable: boolean) => Check,
): HttpHandler {
  const { member } = options;
  return async (request, response, url) => {
    if (!isRead(request, response)) return;
    const excluded = url.searchParams.getAll('exclude');
    const serializable = url.searchParams.get('serializable') === 'true';
    const raised = member.alarms
      .map((alarm) => (alarm.alarm === 'no-space' ? 'NOSPACE' : 'CORRUPT'))
      .find((alarm) => !excluded.includes(alarm));
    let reason = raised === undefined ? undefined : `ALARM ${raised}`;
    if (reason === undefined && !serializable && member.leader === 0n) reason = 'RAFT NO LEADER';
    if (reason === undefined) {
      const failure = await run(read(serializable), options.timeoutMs);
      if (failure !== undefined) reason = `RANGE ERROR:${failure}`;
    }
    options.onChecked('health', 'health', reason === undefined);
    sendJson(response, reason === undefined ? 200 : 503, {
      health: reason === undefined ? 'true' : 'false',
      reason: reason ?? '',
    });
  };
}

function mountChecks(
  at: MountPoint,
  path: string,
  options: HealthOptions,
  checks: ReadonlyMap<string, Check>,
): void {
  const type = path.slice(1);
  const handler =
    (chosen: ReadonlyMap<string, Check>): HttpHandler =>
    async (request, response, url) => {
      if (!isRead(request, response)) return;
      const excluded = new Set(url.searchParams.getAll('exclude'));
      const lines = await Promise.all(
        [...chosen].map(async ([name, check]) => {
          if (excluded.has(name)) return { passed: true, line: `[+]${name} excluded: ok` };
          const failure = await run(check, options.timeoutMs);
          options.onChecked(type, name, failure === undefined);
          return failure === undefined
            ? { passed: true, line: `[+]${name} ok` }
            : { passed: false, line: `[-]${name} failed: ${failure}` };
        }),
      );
      const passed = lines.every((line) => line.passed);
      if (passed && !url.searchParams.has('verbose')) {
        sendText(response, 200, 'ok\n');
        return;
      }
      const report = lines.map((line) => `${line.line}\n`).join('');
      sendText(
        response,
        passed ? 200 : 503,
        `${report}${passed ? 'ok' : `${type} check failed`}\n`,
      );
    };
  at.mount(path, handler(checks));
  for (const [name, check] of checks) {
    at.mount(`${path}/${name}`, handler(new Map([[name, check]])));
  }
}

/** The reason of failure, or undefined; a check that is still running when its time is over failed. */
async function run(check: Check, timeoutMs: number): Promise<string | undefined> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => {
      resolve(CONTEXT_DEADLINE.details);
      abort.abort();
    }, timeoutMs);
  });
  const outcome = check(abort.signal).then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  const failure = await Promise.race([outcome, late]);
  clearTimeout(timer);
  return failure;
}
