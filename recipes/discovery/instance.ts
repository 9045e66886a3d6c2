/** A registered instance of a service, as it is written and as others see it. */
import { type Codec, decodeWith, encodeWith, json } from '../../sdk/codec.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { parseRecord } from '../common/json-record.ts';
import type { Stamp } from '../common/kept-entry.ts';
import { unescapeName } from '../names.ts';

/**
 * - `up`: takes work.
 * - `unhealthy`: says itself that its checks fail.
 * - `draining`: finishes what it has, and is about to leave; never picked for more.
 */
export type InstanceStatus = 'up' | 'unhealthy' | 'draining';

export type Instance<M> = {
  readonly id: string;
  readonly address: string;
  /** With a codec decoded at each look. @throws ConclaveError CODEC when the codec cannot read it */
  readonly meta: M;
  /** Relative share of work for weighted strategies. */
  readonly weight: number;
  /** Where it runs: levels from the widest on, such as 'eu/eu-1'; undefined when it does not say. */
  readonly zone: string | undefined;
  readonly status: InstanceStatus;
  /** Why it is unhealthy: what the check found that made it so. */
  readonly reason: string | undefined;
  /** When it registered, by its own wall clock. */
  readonly registeredAt: Date;
  /** Since when it has this status, by its own wall clock. */
  readonly statusSince: Date;
  /** Tells this incarnation from another that used the same id. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
};

/** Where the instances of a service are, and how their metadata is written. */
export type ServicePlace<M> = {
  readonly service: string;
  readonly prefix: string;
  /** JSON without. */
  readonly codec?: Codec<M> | undefined;
};

/** The metadata as JSON; of a codec as text, or in base64 when it is not UTF-8. */
type MetaRecord<M> = {
  readonly meta?: M;
  readonly metaText?: string;
  readonly metaBase64?: string;
};

/** The value of an instance's key. */
export type InstanceRecord<M> = MetaRecord<M> & {
  readonly v: 1;
  readonly address: string;
  readonly weight: number;
  readonly zone?: string;
  readonly status: InstanceStatus;
  readonly reason?: string;
  readonly sinceMs: number;
  readonly statusMs: number;
  /** Which registration wrote it, and its how-manieth write this is. */
  readonly registration: string;
  readonly sequence: number;
};

/** @throws ConclaveError CODEC */
export function metaRecord<M>(meta: M, codec: Codec<M> | undefined): MetaRecord<M> {
  if (meta === undefined) return {};
  const data = encodeWith(codec ?? json<M>(), meta);
  if (codec === undefined) return { meta };
  const text = data.toString('utf8');
  const isText = Buffer.from(text, 'utf8').equals(data);
  return isText ? { metaText: text } : { metaBase64: data.toString('base64') };
}

/** @throws ConclaveError CODEC */
function readMeta<M>(
  { meta, metaText, metaBase64 }: MetaRecord<M>,
  codec: Codec<M> | undefined,
  key: string,
): M {
  if (typeof metaBase64 === 'string') {
    return decodeWith(codec ?? json<M>(), Buffer.from(metaBase64, 'base64'), key);
  }
  if (typeof metaText === 'string') {
    return decodeWith(codec ?? json<M>(), Buffer.from(metaText), key);
  }
  if (codec === undefined || meta === undefined) return meta as M;
  return decodeWith(codec, Buffer.from(JSON.stringify(meta)), key);
}

export const readInstanceRecord = <M>(kv: Pick<KeyValue, 'value'>): Partial<InstanceRecord<M>> =>
  parseRecord(kv);

/** Which registration wrote an entry, and its how-manieth write it is. */
export function stampOfInstance(kv: KeyValue): Partial<Stamp> {
  const { registration: owner, sequence } = readInstanceRecord(kv);
  return {
    ...(typeof owner === 'string' ? { owner } : {}),
    ...(typeof sequence === 'number' ? { sequence } : {}),
  };
}

/** undefined when the key holds something else. What is not well formed in it counts as not given. */
export function readInstance<M>(
  prefix: string,
  kv: KeyValue,
  codec?: Codec<M>,
): Instance<M> | undefined {
  const record = readInstanceRecord<M>(kv);
  if (typeof record.address !== 'string') return undefined;
  const registeredAt = readTime(record.sinceMs) ?? new Date(0);
  return {
    id: unescapeName(kv.key.slice(prefix.length)),
    address: record.address,
    get meta() {
      return readMeta<M>(record, codec, kv.key);
    },
    weight: readWeight(record.weight),
    zone: textOrNone(record.zone),
    status: readStatus(record.status),
    reason: textOrNone(record.reason),
    registeredAt,
    statusSince: readTime(record.statusMs) ?? registeredAt,
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
  };
}

const textOrNone = (value: unknown): string | undefined =>
  typeof value === 'string' ? value : undefined;

/** undefined when it is no time that a Date can tell. */
function readTime(ms: unknown): Date | undefined {
  const time = new Date(typeof ms === 'number' ? ms : Number.NaN);
  return Number.isNaN(time.getTime()) ? undefined : time;
}

const readWeight = (weight: unknown): number =>
  typeof weight === 'number' && Number.isFinite(weight) && weight >= 0 ? weight : 1;

/** A status that this version does not know is not one to send work to. */
const readStatus = (status: unknown = 'up'): InstanceStatus =>
  status === 'up' || status === 'draining' ? status : 'unhealthy';
