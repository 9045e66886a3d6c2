/** Opening sessions: new ones, and those that another process has left. */
import { ConclaveError, invalidArgument, throwIfAborted } from './errors.ts';
import { hexId, leaseOfHex } from './hex-id.ts';
import { InheritedKeys } from './inherited-keys.ts';
import type { Seat } from './keep-alive-thread.ts';
import { refuseUnknownOptions } from './known-options.ts';
import { type CallOptions, parseDuration } from './options.ts';
import type { SessionOptions, SessionTerms } from './session.ts';
import { LeaseSession, type Opened, type SessionContext } from './session-client.ts';
import { instantOf } from './session-deadline.ts';
import { checkMeta } from './session-meta.ts';

const shortestMaxBlockMs = 1_000;

export const knownSessionOptions: Readonly<Record<keyof Required<SessionOptions>, true>> = {
  ttl: true,
  onSuspend: true,
  lockDelay: true,
  keepAlive: true,
  maxBlock: true,
  bound: true,
  meta: true,
  resume: true,
  resumeWithin: true,
  signal: true,
};

type Checked = {
  readonly terms: SessionTerms & Required<Pick<SessionTerms, 'onSuspend' | 'keepAlive' | 'meta'>>;
  readonly ttlMs: number;
  readonly lockDelayMs: number;
  readonly maxBlockMs: number;
  readonly resume: bigint | undefined;
  /** Undefined for as long as the TTL. */
  readonly resumeWithinMs: number | undefined;
};

/**
 * @throws ConclaveError INVALID_ARGUMENT, SESSION_LOST when the one to resume is gone, and what the
 *   store answers
 */
export const openSession = async (
  context: SessionContext,
  options: SessionOptions = {},
): Promise<LeaseSession> => {
  const checked = check(context, options);
  const { signal } = options;
  throwIfAborted(signal);
  await checked.terms.bound?.untilWell(signal);
  const seat =
    checked.terms.keepAlive === 'thread' ? await context.thread?.seat(signal) : undefined;
  const session = await open(context, { ...checked, seat }, signal).catch((error: unknown) => {
    seat?.leave();
    throw error;
  });
  try {
    await session.startRenewing(signal);
  } catch (error) {
    // What another process has left stays: who resumes it may try again.
    if (checked.resume === undefined) await session.close();
    else session.abandon();
    throw error;
  }
  return session;
};

type Given = Checked & { readonly seat: Seat | undefined };

const open = (
  context: SessionContext,
  given: Given,
  signal: AbortSignal | undefined,
): Promise<LeaseSession> => {
  const call = signal === undefined ? {} : { signal };
  return given.resume === undefined
    ? openNew(context, given, call)
    : takeOver(context, given, given.resume, call);
};

const openNew = async (
  context: SessionContext,
  { terms, ttlMs, lockDelayMs, maxBlockMs, seat }: Given,
  call: CallOptions,
): Promise<LeaseSession> => {
  const sentAt = instantOf(context.clock);
  const granted = await context.client.leases.grant(ttlMs + lockDelayMs, call);
  const { id: lease } = granted;
  const opened = { lease, sentAt, ttlMs: granted.ttlMs, lockDelayMs, maxBlockMs, seat };
  return new LeaseSession(context, terms, opened);
};

const takeOver = async (
  context: SessionContext,
  { terms, lockDelayMs, maxBlockMs, resumeWithinMs, seat }: Given,
  lease: bigint,
  call: CallOptions,
): Promise<LeaseSession> => {
  const { leases } = context.client;
  const sentAt = instantOf(context.clock);
  const { ttlMs } = await leases.keepAlive(lease, call);
  if (ttlMs === 0) {
    throw new ConclaveError(
      'SESSION_LOST',
      `Session ${hexId(lease)} cannot be resumed: its lease is gone`,
    );
  }
  if (ttlMs <= lockDelayMs) {
    throw invalidArgument('lockDelay', lockDelayMs, `less than its lease, ${ttlMs} ms`);
  }
  const opened: Opened = { lease, sentAt, ttlMs, lockDelayMs, maxBlockMs, seat };
  // Its time was settled by the process that opened it, whatever is asked for here.
  const settled = { ...terms, ttl: ttlMs - lockDelayMs };
  if (resumeWithinMs === Number.POSITIVE_INFINITY) {
    return new LeaseSession(context, settled, opened);
  }
  const inherited = await InheritedKeys.of({ kv: context.kv, leases, lease }, call);
  const session = new LeaseSession(context, settled, opened);
  session.reapAfter(resumeWithinMs ?? session.ttlMs, () => inherited.deleteUntouched());
  return session;
};

/** @throws ConclaveError INVALID_ARGUMENT */
const check = (context: SessionContext, options: SessionOptions): Checked => {
  refuseUnknownOptions(options, knownSessionOptions);
  const { ttl = '15s', lockDelay = 0, onSuspend = 'continue', meta = {} } = options;
  const { keepAlive = 'loop', maxBlock = '60s', resume, resumeWithin, bound } = options;
  const ttlMs = parseDuration(ttl, 'ttl');
  if (ttlMs <= 0) throw invalidArgument('ttl', ttl, 'more than 0');
  if (onSuspend !== 'stop' && onSuspend !== 'continue' && typeof onSuspend !== 'function') {
    throw invalidArgument('onSuspend', onSuspend, "'stop', 'continue' or a function");
  }
  if (keepAlive !== 'loop' && keepAlive !== 'thread') {
    throw invalidArgument('keepAlive', keepAlive, "'loop' or 'thread'");
  }
  const maxBlockMs = parseDuration(maxBlock, 'maxBlock');
  if (maxBlockMs < shortestMaxBlockMs) throw invalidArgument('maxBlock', maxBlock, "at least '1s'");
  if (keepAlive === 'thread' && context.thread === undefined) {
    const allowed = "'loop' where the clock or the transport of the client is not the system's";
    throw invalidArgument('keepAlive', keepAlive, allowed);
  }
  if (bound !== undefined && typeof Object(bound).untilWell !== 'function') {
    throw invalidArgument('bound', bound, 'an object that tells whether sessions may live');
  }
  checkMeta(meta);
  const patient = resumeWithin === undefined || resumeWithin === Number.POSITIVE_INFINITY;
  return {
    terms: {
      ttl,
      lockDelay,
      onSuspend,
      keepAlive,
      maxBlock,
      meta: { ...meta },
      ...(bound === undefined ? {} : { bound }),
    },
    ttlMs,
    lockDelayMs: parseDuration(lockDelay, 'lockDelay'),
    maxBlockMs,
    resume: resume === undefined ? undefined : parseId(resume),
    resumeWithinMs: patient ? resumeWithin : parseDuration(resumeWithin, 'resumeWithin'),
  };
};

const parseId = (resume: string | bigint): bigint => {
  const lease = typeof resume === 'string' ? leaseOfHex(resume) : resume;
  if (typeof lease === 'bigint' && lease !== 0n) return BigInt.asIntN(64, lease);
  throw invalidArgument('resume', resume, "a session's 'id' or 'lease'");
};
