/** A registered instance of a service, as it is written and as others see it. */
import type { KeyValue } from '../../sdk/kv.ts';
import { unescapeName } from '../names.ts';

/** Draining instances finish what they have; they are not picked for more. */
export type InstanceStatus = 'up' | 'draining';

export type Instance<M> = {
  readonly id: string;
  readonly address: string;
  readonly meta: M;
  /** Relative share of work for weighted strategies. */
  readonly weight: number;
  readonly status: InstanceStatus;
  /** When it registered, by its own wall clock. */
  readonly registeredAt: Date;
  /** Tells this incarnation from another that used the same id. */
  readonly createRevision: bigint;
  readonly modRevision: bigint;
};

/** The value of an instance's key. */
export type InstanceRecord<M> = {
  readonly v: 1;
  readonly address: string;
  readonly meta?: M;
  readonly weight: number;
  readonly status: InstanceStatus;
  readonly sinceMs: number;
  /** Which registration wrote it, and its how-manieth write this is. */
  readonly registration: string;
  readonly sequence: number;
};

export function readInstanceRecord<M>(kv: KeyValue): Partial<InstanceRecord<M>> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(kv.value).toString('utf8'));
    if (typeof parsed === 'object' && parsed !== null) return parsed;
  } catch {
    // Not ours.
  }
  return {};
}

/** undefined when the key holds something else. */
export function readInstance<M>(prefix: string, kv: KeyValue): Instance<M> | undefined {
  const record = readInstanceRecord<M>(kv);
  if (typeof record.address !== 'string') return undefined;
  return {
    id: unescapeName(kv.key.slice(prefix.length)),
    address: record.address,
    meta: record.meta as M,
    weight: record.weight ?? 1,
    status: record.status ?? 'up',
    registeredAt: new Date(record.sinceMs ?? 0),
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
  };
}
