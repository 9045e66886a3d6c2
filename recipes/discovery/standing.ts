/**
 * Which instances a pool holds back although they are listed: those whose calls failed, those that
 * come and go, and those that do not pass the pool's own probes.
 */
import type { Pace } from '../common/repeat.ts';
import {
  afterFlap,
  type DampingRules,
  type Flaps,
  isForgotten,
  isSuppressed,
  penaltyAt,
  reusableAtMs,
} from './damping.ts';
import type { CheckRules, Health } from './health.ts';
import type { Instance } from './instance.ts';
import type { Change } from './instance-feed.ts';
import { monitor } from './monitor.ts';
import { type EjectionReason, OutlierDetector, type OutlierRules } from './outliers.ts';

/** How a pool checks an instance; as `HealthCheck`, with the instance to check. */
export type Probe<M> = (instance: Instance<M>, signal: AbortSignal) => unknown;

export type StandingRules<M> = {
  readonly eject: OutlierRules | undefined;
  readonly damping: DampingRules | undefined;
  readonly probe: { readonly check: Probe<M>; readonly rules: CheckRules } | undefined;
  /** Whether instances are told apart by id or, where ids are made anew at each start, by address. */
  readonly dampBy: 'id' | 'address';
};

/** Why an instance is held back, and for how much longer, if that is a matter of time. */
export type HeldBack =
  | { readonly by: 'ejection'; readonly reason: EjectionReason; readonly forMs: number }
  | { readonly by: 'damping'; readonly penalty: number; readonly forMs: number }
  | { readonly by: 'probe'; readonly reason: string };

export class Standing<M> {
  readonly #pace: Pace;
  readonly #rules: StandingRules<M>;
  readonly #onChange: () => void;
  readonly #detector: OutlierDetector | undefined;
  readonly #flaps = new Map<string, Flaps>();
  /** Stop the probes of each instance. */
  readonly #probing = new Map<string, AbortController>();
  readonly #probed = new Map<string, Health>();
  #isClosed = false;

  /** @param onChange who is held back may be another than before, for a reason other than time */
  constructor(pace: Pace, rules: StandingRules<M>, onChange: () => void) {
    this.#pace = pace;
    this.#rules = rules;
    this.#onChange = onChange;
    this.#detector = rules.eject && new OutlierDetector(rules.eject, pace.random, this.#nowMs);
  }

  /** Why it is held back now; undefined when it is not. */
  heldBack(instance: Instance<M>): HeldBack | undefined {
    const nowMs = this.#nowMs;
    const ejection = this.#detector?.ejection(instance.id, nowMs);
    if (ejection) {
      return { by: 'ejection', reason: ejection.reason, forMs: ejection.untilMs - nowMs };
    }
    const { damping } = this.#rules;
    const flaps = this.#flaps.get(this.#flapKey(instance));
    if (damping && flaps && isSuppressed(flaps, nowMs, damping)) {
      const forMs = reusableAtMs(flaps, damping) - nowMs;
      return { by: 'damping', penalty: penaltyAt(flaps, nowMs, damping), forMs };
    }
    const health = this.#probed.get(instance.id);
    if (health?.healthy === false) return { by: 'probe', reason: health.reason ?? 'it failed' };
    return undefined;
  }

  /** In flaps; decays. */
  penalty(instance: Instance<M>): number {
    const { damping } = this.#rules;
    const flaps = this.#flaps.get(this.#flapKey(instance));
    return damping && flaps ? penaltyAt(flaps, this.#nowMs, damping) : 0;
  }

  /** A call of this instance has ended. */
  called(instance: Instance<M>, succeeded: boolean, instances: readonly Instance<M>[]): void {
    const nowMs = this.#nowMs;
    const ids = instances.map(({ id }) => id);
    if (this.#detector?.called(instance.id, succeeded, nowMs, ids)) this.#onChange();
  }

  /** Learns of comings and goings. */
  follow(event: Change<M>): void {
    switch (event.type) {
      case 'joined':
        this.#probe(event.instance);
        break;
      case 'updated':
        if (event.before.address !== event.instance.address) this.#probe(event.instance);
        if (isFlap(event.before, event.instance)) this.#flap(event.instance);
        break;
      case 'left':
        this.#probing.get(event.instance.id)?.abort();
        this.#probing.delete(event.instance.id);
        this.#probed.delete(event.instance.id);
        this.#detector?.forget(event.instance.id);
        // Who was seen draining does not flap; who leaves without, or was not seen to drain, does.
        if (event.instance.status !== 'draining') this.#flap(event.instance);
    }
  }

  /** Ends the probes, for good. */
  close(): void {
    this.#isClosed = true;
    for (const stop of this.#probing.values()) stop.abort();
  }

  get #nowMs(): number {
    return this.#pace.clock.monotonicMs();
  }

  #flapKey(instance: Instance<M>): string {
    return this.#rules.dampBy === 'id' ? instance.id : instance.address;
  }

  #flap(instance: Instance<M>): void {
    const { damping } = this.#rules;
    if (!damping) return;
    const nowMs = this.#nowMs;
    for (const [key, flaps] of this.#flaps) {
      if (isForgotten(flaps, nowMs, damping)) this.#flaps.delete(key);
    }
    const key = this.#flapKey(instance);
    this.#flaps.set(key, afterFlap(this.#flaps.get(key), nowMs, damping));
  }

  #probe(instance: Instance<M>): void {
    const { probe } = this.#rules;
    if (!probe || this.#isClosed) return;
    const { id } = instance;
    this.#probing.get(id)?.abort();
    this.#probed.delete(id);
    const stop = new AbortController();
    this.#probing.set(id, stop);
    const check = (signal: AbortSignal) => probe.check(instance, signal);
    void monitor(this.#pace, check, probe.rules, stop.signal, (health) => {
      this.#probed.set(id, health);
      this.#onChange();
    });
  }
}

/** It went and came back unseen, or has become unhealthy. */
const isFlap = <M>(before: Instance<M>, now: Instance<M>): boolean =>
  before.createRevision !== now.createRevision ||
  (before.status === 'up' && now.status === 'unhealthy');
