/**
 * Where the recipes keep their keys. One name is one level: `/` is escaped, every prefix ends in
 * `/`, so the keys of 'orders' and of 'orders/42' can never mix.
 *
 *     conclave/lock/<name>/<session>-<attempt>        value: LineRecord
 *     conclave/election/<name>/<session>-<attempt>    value: LineRecord
 *     conclave/election/<name>/leader                 who leads, in an election by priority
 *     conclave/election/<name>/request/<session>-…    a candidate that asks the leader to make way
 *     conclave/migrations/<name>/step/<place>         a migration that was begun or is done
 *     conclave/migrations/<name>/line/<session>-…     who runs them, and who would next
 *     conclave/rw/<name>/{r,w}/<session>-<attempt>    value: LineRecord with the mode
 *     conclave/semaphore/<name>/limit                 the limit, stored once
 *     conclave/semaphore/<name>/line/<session>-…      value: LineRecord with the weight
 *     conclave/line/<name>/<session>-<attempt>        value: LineRecord
 *     conclave/rate/<name>/state                      rate, burst and how far they are used
 *     conclave/rate/<name>/line/<session>-<attempt>   who waits, in order
 *     conclave/barrier/<name>/gate                    the barrier, while it is raised
 *     conclave/barrier/<name>/waiting/<session>-…     who waits for it to be lowered
 *     conclave/barrier/<name>/op/<session>-…          that it was raised. Leased
 *     conclave/double-barrier/<name>/terms            how many parties, and the generation that forms
 *     conclave/double-barrier/<name>/in/<n>/<session>-… a party of generation <n>
 *     conclave/double-barrier/<name>/ready/<n>        generation <n> was complete, and is inside
 *     conclave/{double,cyclic}-barrier/<name>/seal/…  a crowd is being counted, a part at a time
 *     conclave/cyclic-barrier/<name>/record           how many parties, the generation, what broke it
 *     conclave/cyclic-barrier/<name>/in/<n>/<session>-… a party that waits in generation <n>
 *     conclave/cyclic-barrier/<name>/arrivals/<n>     its version counts the arrivals of generation <n>
 *     conclave/latch/<name>/gate                      the round, and whether the latch has opened in it
 *     conclave/latch/<name>/round/<n>/{tally,id/<id>} its version counts the arrivals; who has arrived
 *     conclave/counter/<name>/sum/0                   the value of a counter
 *     conclave/counter/<name>/op/<session>-<attempt>  an addition that counted; op/named/<opId> likewise
 *     conclave/adder/<name>/{sum/<shard>,op/…}        a counter spread over shards
 *     conclave/ids/<name>/{sum/0,op/…}                the last id that was given to anybody
 *     conclave/value/<name>/{current,op/…}            a shared value
 *     conclave/group/<name>/<member>                  a member of a group
 *     conclave/config/<name>/{current,op/…}           a configuration
 *     conclave/stm/op/<session>-<attempt>             a transaction that took effect
 *     conclave/gone/<session>-<attempt>               an attempt that may never join a line again
 *     conclave/queue/<name>/job/<id>                  the payload, unless that travels with the job
 *     conclave/queue/<name>/ready/<id>                may be claimed
 *     conclave/queue/<name>/at/<due>/<id>             waits for its time
 *     conclave/queue/<name>/claim/<id>                a worker has it
 *     conclave/queue/<name>/dead/<id>                 dead letter
 *     conclave/queue/<name>/result/<id>               what a handler returned, for a while
 *     conclave/queue/<name>/dedup/<key>               the unfinished job with this key; leased: the done one
 *     conclave/queue/<name>/worker/<session>          a live worker
 *     conclave/queue/<name>/push/<session>-<lane>     the last push of a producer's lane
 *     conclave/queue/<name>/limits                    what all clients of the queue keep to
 *     conclave/queue/<name>/line/<group>/<id>         waits for a turn of its group
 *     conclave/queue/<name>/turn/<group>/<n>          the job that has this turn of its group
 *     conclave/queue/<name>/pass/<group>              a turn may be free while jobs wait for it
 *     conclave/queue/<name>/slot/<n>                  one of the jobs that may run at a time
 *     conclave/queue/<name>/gate                      rewritten by each push to a bounded queue
 *     conclave/queue/<name>/rate                      how far the rate of claims is used up
 *     conclave/queue/<name>/cancel/<id>               a claimed job is to stop; and what comes after it
 *     conclave/queue/<name>/blocked/<id>              waits for its children
 *     conclave/queue/<name>/wait/<id>/<child>         a child that is not finished
 *     conclave/queue/<name>/child/<id>/<child>        how a child ended
 *     conclave/queue/<name>/freed/<id>                waits for its children no longer
 *     conclave/cron/<name>                            a schedule, and the last slot it has run
 *     conclave/service/<name>/<instance>              a registered instance
 *     conclave/topic/<name>/message/<id>              a message, in the order of create revisions
 *     conclave/topic/<name>/{floor,settings}          up to where messages are removed, and by what rule
 *     conclave/topic/<name>/position/<kind>/<name>    how far a durable subscription or a group is
 *     conclave/topic/<name>/active/<role>/<session>-… who consumes, feeds a group, or removes messages
 *     conclave/topic/<name>/op/<session>-<attempt>    a publication that counted; op/id/<id> likewise
 *     conclave/topic/<name>/conclave/queue/<group>/…  the messages of a group that are not settled
 */
import { invalidArgument } from '../sdk/errors.ts';

/** Longest name, in bytes of UTF-8 before escaping. */
export const nameBytesMax = 200;

/** `/` would open a new level, `%` is the escape itself, control characters break terminals. */
const escaped = /[%/\p{Cc}]/gu;
const loneSurrogate = /\p{Cs}/u;

const hexByte = (byte: number) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;

/**
 * One name as one level of a key.
 *
 * @param field what the name is for, for the error
 * @throws ConclaveError INVALID_ARGUMENT when it is empty, too long or not well-formed text
 */
export function escapeName(name: string, field: string): string {
  const allowed = `a text of 1 to ${nameBytesMax} bytes of UTF-8`;
  if (typeof name !== 'string' || name === '' || loneSurrogate.test(name)) {
    throw invalidArgument(field, name, allowed);
  }
  const length = Buffer.byteLength(name);
  if (length > nameBytesMax) throw invalidArgument(field, `${length} bytes`, allowed);
  return name.replace(escaped, (character) =>
    [...Buffer.from(character, 'utf8')].map(hexByte).join(''),
  );
}

/** The name that `escapeName` made this level of. Text that it never makes is returned as it is. */
export function unescapeName(level: string): string {
  try {
    return decodeURIComponent(level);
  } catch {
    return level;
  }
}

/** Prefix of all keys of the recipes. */
export const rootPrefix = 'conclave/';

export const lockPrefix = (name: string): string =>
  `${rootPrefix}lock/${escapeName(name, 'name')}/`;

/**
 * Where etcd's own locks are: the name as it is, then `/`.
 *
 * @throws ConclaveError INVALID_ARGUMENT also for names under which conclave keeps its own keys
 */
export function etcdLockPrefix(name: string): string {
  escapeName(name, 'name');
  const prefix = `${name}/`;
  if (prefix.startsWith(rootPrefix)) {
    throw invalidArgument('name', name, `outside '${rootPrefix}' in the layout of etcd`);
  }
  return prefix;
}

export const electionPrefix = (name: string): string =>
  `${rootPrefix}election/${escapeName(name, 'name')}/`;

export const migrationsPrefix = (name: string): string =>
  `${rootPrefix}migrations/${escapeName(name, 'name')}/`;

export const rwPrefix = (name: string): string => `${rootPrefix}rw/${escapeName(name, 'name')}/`;

export const semaphorePrefix = (name: string): string =>
  `${rootPrefix}semaphore/${escapeName(name, 'name')}/`;

export const linePrefix = (name: string): string =>
  `${rootPrefix}line/${escapeName(name, 'name')}/`;

export const ratePrefix = (name: string): string =>
  `${rootPrefix}rate/${escapeName(name, 'name')}/`;

export const barrierPrefix = (name: string): string =>
  `${rootPrefix}barrier/${escapeName(name, 'name')}/`;

export const doubleBarrierPrefix = (name: string): string =>
  `${rootPrefix}double-barrier/${escapeName(name, 'name')}/`;

export const cyclicBarrierPrefix = (name: string): string =>
  `${rootPrefix}cyclic-barrier/${escapeName(name, 'name')}/`;

export const latchPrefix = (name: string): string =>
  `${rootPrefix}latch/${escapeName(name, 'name')}/`;

export const counterPrefix = (name: string): string =>
  `${rootPrefix}counter/${escapeName(name, 'name')}/`;

export const adderPrefix = (name: string): string =>
  `${rootPrefix}adder/${escapeName(name, 'name')}/`;

export const idsPrefix = (name: string): string => `${rootPrefix}ids/${escapeName(name, 'name')}/`;

export const valuePrefix = (name: string): string =>
  `${rootPrefix}value/${escapeName(name, 'name')}/`;

export const groupPrefix = (name: string): string =>
  `${rootPrefix}group/${escapeName(name, 'name')}/`;

export const configPrefix = (name: string): string =>
  `${rootPrefix}config/${escapeName(name, 'name')}/`;

export const cronKey = (name: string): string => `${rootPrefix}cron/${escapeName(name, 'name')}`;

export const topicPrefix = (name: string): string =>
  `${rootPrefix}topic/${escapeName(name, 'name')}/`;

/** Transactions have no name: what they read and write is the program's. */
export const stmPrefix = `${rootPrefix}stm/`;

export const servicePrefix = (service: string): string =>
  `${rootPrefix}service/${escapeName(service, 'service')}/`;

/** Marks an attempt whose enqueue must have no effect any more, however late it arrives. */
export const goneKey = (member: string): string => `${rootPrefix}gone/${member}`;

/** The prefixes of one queue, each ending in `/`. */
export type QueueKeys = {
  /** The name of the queue, as it was given. */
  readonly name: string;
  readonly root: string;
  readonly job: string;
  readonly ready: string;
  readonly at: string;
  readonly claim: string;
  readonly dead: string;
  readonly result: string;
  readonly dedup: string;
  readonly worker: string;
  readonly push: string;
  readonly limits: string;
  readonly line: string;
  readonly turn: string;
  readonly pass: string;
  readonly slot: string;
  readonly gate: string;
  readonly rate: string;
  readonly cancel: string;
  readonly blocked: string;
  readonly wait: string;
  readonly child: string;
  readonly freed: string;
};

export function queueKeys(name: string): QueueKeys {
  const root = `${rootPrefix}queue/${escapeName(name, 'name')}/`;
  return {
    name,
    root,
    job: `${root}job/`,
    ready: `${root}ready/`,
    at: `${root}at/`,
    claim: `${root}claim/`,
    dead: `${root}dead/`,
    result: `${root}result/`,
    dedup: `${root}dedup/`,
    worker: `${root}worker/`,
    push: `${root}push/`,
    limits: `${root}limits`,
    line: `${root}line/`,
    turn: `${root}turn/`,
    pass: `${root}pass/`,
    slot: `${root}slot/`,
    gate: `${root}gate`,
    rate: `${root}rate`,
    cancel: `${root}cancel/`,
    blocked: `${root}blocked/`,
    wait: `${root}wait/`,
    child: `${root}child/`,
    freed: `${root}freed/`,
  };
}

const half = 2 ** 32;

/** 64 random bits in hexadecimal, from a source uniform in [0, 1). */
export const randomId = (random: () => number): string =>
  hex32(Math.floor(random() * half)) + hex32(Math.floor(random() * half));

const hex32 = (value: number) => value.toString(16).padStart(8, '0');

/** A number of at most 64 bits as text whose order is the numbers' order. */
export const sortableHex = (value: bigint): string => value.toString(16).padStart(16, '0');
