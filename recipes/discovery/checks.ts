/** Health checks: functions that throw, or return false, when something is not well. */
import { connect } from 'node:net';
import { invalidArgument } from '../../sdk/errors.ts';
import { checkOptions } from '../common/option-checks.ts';
import type { Pace } from '../common/repeat.ts';
import { linkedSignal, onAbort, unlessAborted } from '../common/signals.ts';
import type { CheckResult } from './health.ts';

/**
 * Passes unless it throws, rejects or returns false. The signal aborts when its time is over; while
 * three checks have not ended all the same, no other is begun, and that counts as a failure.
 */
export type HealthCheck = (signal: AbortSignal) => unknown;

export type HttpCheckOptions = {
  /** @default 'GET' */
  readonly method?: 'GET' | 'HEAD';
  /** Which statuses pass. @default 200 to 299 */
  readonly accept?: (status: number) => boolean;
  readonly headers?: Readonly<Record<string, string>>;
};

/** Passes when the address answers with a good status. @throws ConclaveError INVALID_ARGUMENT */
export function httpCheck(url: string | URL, options: HttpCheckOptions = {}): HealthCheck {
  checkOptions<HttpCheckOptions>(options, { method: true, accept: true, headers: true });
  const { method = 'GET', accept = isSuccess, headers = {} } = options;
  const target = URL.canParse(`${url}`) ? new URL(url) : undefined;
  if (target === undefined || !/^https?:$/.test(target.protocol)) {
    throw invalidArgument('url', `${url}`, 'an http or https address');
  }
  return async (signal) => {
    const response = await fetch(target, { method, headers, signal, redirect: 'manual' });
    await response.body?.cancel();
    if (!accept(response.status)) throw new Error(`${target.href} answers ${response.status}`);
  };
}

const isSuccess = (status: number): boolean => status >= 200 && status <= 299;

/** Passes when a connection can be made. @throws ConclaveError INVALID_ARGUMENT */
export function tcpCheck(address: string): HealthCheck {
  const { host, port } = parseAddress(address);
  return async (signal) => {
    // A socket that is opened now would be left without anybody to hear of its errors.
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const socket = connect({ host, port });
      const settle = (how: () => void): void => {
        stopListening();
        socket.destroy();
        how();
      };
      const stopListening = onAbort(signal, () => settle(() => reject(signal.reason)));
      socket.once('connect', () => settle(resolve));
      socket.once('error', (error) => settle(() => reject(error)));
    });
  };
}

function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port >= 1 && port <= 65_535)) {
    throw invalidArgument('address', address, "host:port, such as '10.0.0.7:8080' or '[::1]:8080'");
  }
  return { host, port };
}

/** Longest reason that is kept: it goes into the instance's entry. */
const reasonLengthMax = 200;

/** Makes one check, which is given up after its time even if it is deaf to its signal. */
export async function runCheck(
  { clock }: Pace,
  check: HealthCheck,
  timeoutMs: number,
  outer: AbortSignal,
): Promise<CheckResult> {
  const { signal, abort, unlink } = linkedSignal(outer);
  const cancel = clock.setTimer(timeoutMs, () => abort(new Error(`no answer in ${timeoutMs} ms`)));
  try {
    const result = await unlessAborted(Promise.resolve(signal).then(check), signal);
    return result === false ? { passed: false, reason: 'the check says so' } : { passed: true };
  } catch (error) {
    const cause = signal.aborted && !outer.aborted ? signal.reason : error;
    return { passed: false, reason: describe(cause).slice(0, reasonLengthMax) };
  } finally {
    cancel();
    unlink();
  }
}

/** What fetch throws says why only in its cause. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error
    ? `${error.message}: ${describe(error.cause)}`
    : error.message;
}
