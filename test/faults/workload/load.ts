/**
 * Clients that write, read and swap at a modest pace, through every member, and record all of it.
 * They go on through faults: one that gets no answer turns to the next member.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { AppendOperation, AppendResult, AppendStep } from '../../lin/append.ts';
import { type Outcome, Recorder } from '../../lin/history.ts';
import {
  claimsRevision,
  type Entry,
  put,
  read,
  remove,
  type Step,
  type StoreAction,
  type StoreAnswer,
  type StoreOperation,
  type StoreTxn,
} from '../../lin/store.ts';
import { SeededRandom } from '../../support/generators/random.ts';
import type { FaultCluster } from '../cluster/cluster.ts';
import { perform } from './store-calls.ts';

const callTimeoutMs = 2_500;
const registerClients = 8;
const appendClients = 2;
const leaseClients = 2;
const registerKeys = 24;
const listKeys = 4;
/** Lists grow with every append: after so many a key is given up for a new one. */
const maxListLength = 60;
const leaseTtlSeconds = 4;
/** Between two operations of a client, on average. */
const pauseMs = 25;
const pauseAfterFailureMs = 60;

export class Load {
  readonly #cluster: FaultCluster;
  readonly #random: SeededRandom;
  readonly #recorder = new Recorder<StoreAction, StoreAnswer>(() => performance.now());
  readonly #appends = new Recorder<readonly AppendStep[], AppendResult>(() => performance.now());
  /** What was last seen of a key, so that swaps have a chance. */
  readonly #seen = new Map<string, Entry>();
  readonly #listGeneration = Array.from({ length: listKeys }, () => 0);
  /** Times between which answers prove nothing. */
  readonly #distrusted: (readonly [number, number])[] = [];
  #values = 0;
  #newestRevision = 1;
  #isPaused = true;
  #running: Promise<unknown> = Promise.resolve();
  #runs = 0;

  constructor(cluster: FaultCluster, seed: number) {
    this.#cluster = cluster;
    this.#random = new SeededRandom(seed);
  }

  resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#runs += 1;
    const clients = (count: number, kind: string, run: (client: Client) => Promise<void>) =>
      Array.from({ length: count }, async (_, place) => {
        const client = this.#client(`${kind}${this.#runs}.${place}`, place);
        while (!this.#isPaused) await run(client);
      });
    this.#running = Promise.all([
      ...clients(registerClients, 'register', (client) => this.#registerTurn(client)),
      ...clients(appendClients, 'append', (client) => this.#appendTurn(client)),
      ...clients(leaseClients, 'lease', (client) => this.#leaseLife(client)),
    ]);
    // Reported by pause().
    this.#running.catch(() => undefined);
  }

  /** Resolves once no operation is under way. */
  async pause(): Promise<void> {
    this.#isPaused = true;
    await this.#running;
  }

  /** Answers in this time may come from a store whose disks are gone already. */
  distrust(from: number, to: number): void {
    this.#distrusted.push([from, to]);
  }

  operations(): StoreOperation[] {
    return this.#recorder.operations().map((operation) => this.#trusted(operation));
  }

  appends(): AppendOperation[] {
    return this.#appends.operations().map((operation) => this.#trusted(operation));
  }

  /** Operations that were invoked in this time. */
  count(from: number, to = performance.now()): { all: number; ok: number; writes: number } {
    const within = this.#recorder
      .operations()
      .filter(({ invoked }) => invoked >= from && invoked <= to);
    const ok = within.filter(({ outcome }) => outcome.kind === 'ok');
    return { all: within.length, ok: ok.length, writes: ok.filter(claimsRevision).length };
  }

  /** The longest time without the answer to a write, in milliseconds. */
  longestWriteGap(from: number, to: number): number {
    const answers = this.#recorder
      .operations()
      .filter((operation) => claimsRevision(operation))
      .map(({ returned }) => returned)
      .filter((returned) => returned >= from && returned <= to)
      .sort((a, b) => a - b);
    const times = [from, ...answers, to];
    return Math.max(...times.slice(1).map((time, index) => time - (times[index] ?? time)));
  }

  /** Large values beside the running clients, a few at a time. Their outcomes do not matter. */
  async burst({ count, valueBytes }: { count: number; valueBytes: number }): Promise<void> {
    await Promise.all(
      Array.from({ length: count }, (_, place) => {
        const client = this.#client(`burst${this.#values}`, place);
        return this.#do(client, put(`bulk-${place % 4}`, this.#value().padEnd(valueBytes, '.')));
      }),
    );
  }

  #trusted<One extends StoreOperation | AppendOperation>(operation: One): One {
    const { outcome, returned } = operation;
    const isTrusted = !this.#distrusted.some(([from, to]) => returned >= from && returned <= to);
    if (outcome.kind !== 'ok' || isTrusted) return operation;
    return { ...operation, outcome: { kind: 'unknown', reason: 'answered without a disk' } };
  }

  #client(name: string, place: number): Client {
    return { name, member: place, random: this.#random.fork() };
  }

  /** Carries out and records one action, then waits a little. */
  async #do(client: Client, action: StoreAction): Promise<Outcome<StoreAnswer>> {
    const { members } = this.#cluster;
    const member = members[client.member % members.length];
    if (member === undefined) throw new Error('the cluster has no members');
    const id = this.#recorder.begin(client.name, action);
    const outcome = await perform(member.client, action, AbortSignal.timeout(callTimeoutMs));
    this.#recorder.end(id, outcome);
    if (outcome.kind === 'ok') {
      this.#newestRevision = Math.max(this.#newestRevision, outcome.answer.revision);
      await delay(client.random.below(2 * pauseMs));
    } else {
      client.member += 1;
      await delay(client.random.between(pauseAfterFailureMs, 2 * pauseAfterFailureMs));
    }
    return outcome;
  }

  #value(): string {
    return `v${this.#values++}`;
  }

  async #registerTurn(client: Client): Promise<void> {
    const key = `key-${client.random.below(registerKeys)}`;
    const other = `key-${client.random.below(registerKeys)}`;
    const action = client.random.weighted<() => StoreAction>([
      [32, () => put(key, this.#value())],
      [6, () => remove(key)],
      [14, () => this.#swapByRevision(key, other)],
      [10, () => this.#swapByValue(key)],
      [24, () => read(key)],
      [6, () => ({ ...read(key), serializable: true })],
      [4, () => ({ kind: 'read-at', key, revision: this.#past(client.random) })],
      [1, () => ({ kind: 'list' })],
      [1, () => ({ kind: 'list', serializable: true })],
    ])();
    const outcome = await this.#do(client, action);
    if (outcome.kind === 'ok') this.#remember(action, outcome.answer);
  }

  #past(random: SeededRandom): number {
    return Math.max(1, this.#newestRevision - random.below(200));
  }

  /** Changes two keys together or not at all; reads one of them otherwise. */
  #swapByRevision(key: string, other: string): StoreTxn {
    const keys = [...new Set([key, other])];
    return {
      kind: 'txn',
      conditions: [{ key, modRevision: this.#seen.get(key)?.modRevision ?? 0 }],
      success: keys.map((one): Step => ({ kind: 'put', key: one, value: this.#value() })),
      failure: [{ kind: 'read', key }],
    };
  }

  #swapByValue(key: string): StoreTxn {
    const value = this.#seen.get(key)?.value;
    return {
      kind: 'txn',
      conditions: [value === undefined ? { key, modRevision: 0 } : { key, value }],
      success: [{ kind: 'put', key, value: this.#value() }],
      failure: [{ kind: 'read', key }],
    };
  }

  #remember(action: StoreAction, answer: StoreAnswer): void {
    if (action.kind !== 'txn' || action.serializable === true) return;
    const steps = (answer.succeeded ?? true) ? action.success : action.failure;
    for (const [index, step] of steps.entries()) {
      const result = answer.results?.[index];
      if (result?.kind === 'read' && result.entry !== undefined)
        this.#seen.set(step.key, result.entry);
      else if (step.kind === 'put') {
        const { revision } = answer;
        this.#seen.set(step.key, {
          ...{ value: step.value, createRevision: 0, version: 0, lease: 0n },
          modRevision: revision,
        });
      } else this.#seen.delete(step.key);
    }
  }

  /** A transaction on lists: reads both, then appends to one or both if nothing changed meanwhile. */
  async #appendTurn(client: Client): Promise<void> {
    const places = [client.random.below(listKeys), client.random.below(listKeys)];
    const keys = [...new Set(places)].map(
      (place) => `list-${place}.${this.#listGeneration[place] ?? 0}`,
    );
    const reading = await this.#do(client, {
      ...{ kind: 'txn', conditions: [], failure: [] },
      success: keys.map((key): Step => ({ kind: 'read', key })),
    });
    if (reading.kind !== 'ok') return;
    const entries = keys.map((_, index) => {
      const result = reading.answer.results?.[index];
      return result?.kind === 'read' ? result.entry : undefined;
    });
    const lists = entries.map((entry): string[] =>
      entry === undefined ? [] : (JSON.parse(entry.value) as string[]),
    );
    for (const [index, list] of lists.entries()) {
      const place = places[index] ?? 0;
      const isCurrent = keys[index] === `list-${place}.${this.#listGeneration[place]}`;
      if (list.length >= maxListLength && isCurrent)
        this.#listGeneration[place] = (this.#listGeneration[place] ?? 0) + 1;
    }
    const isAppending = keys.map((_, index) => index === 0 || client.random.chance(0.3));
    const steps = keys.map(
      (key, index): AppendStep =>
        isAppending[index] === true
          ? { kind: 'append', key, value: this.#value() }
          : { kind: 'read', key },
    );
    const id = this.#appends.begin(client.name, steps);
    const outcome = await this.#do(client, {
      kind: 'txn',
      conditions: keys.map((key, index) => ({
        key,
        modRevision: entries[index]?.modRevision ?? 0,
      })),
      success: steps.flatMap((step, index): Step[] =>
        step.kind === 'append'
          ? [
              {
                kind: 'put',
                key: step.key,
                value: JSON.stringify([...(lists[index] ?? []), step.value]),
              },
            ]
          : [],
      ),
      failure: [],
    });
    if (outcome.kind !== 'ok') this.#appends.end(id, outcome);
    else if (outcome.answer.succeeded === false)
      this.#appends.end(id, { kind: 'fail', reason: 'another one came first' });
    else
      this.#appends.end(id, {
        kind: 'ok',
        answer: steps.map(({ kind }, index) => (kind === 'read' ? lists[index] : undefined)),
      });
  }

  /** A lease with two keys: renewed for a while, then revoked or left to expire. */
  async #leaseLife(client: Client): Promise<void> {
    const lease = BigInt(1_000 + this.#values++);
    const granted = await this.#do(client, { kind: 'grant', lease, ttlSeconds: leaseTtlSeconds });
    if (granted.kind !== 'ok') return;
    for (const part of ['a', 'b'])
      await this.#do(client, put(`lease-${lease}-${part}`, this.#value(), lease));
    const renewals = client.random.below(6);
    for (let count = 0; count < renewals && !this.#isPaused; count++) {
      await delay(500);
      const renewed = await this.#do(client, { kind: 'renew', lease });
      if (renewed.kind === 'fail') return;
    }
    if (client.random.chance(0.5)) await this.#do(client, { kind: 'revoke', lease });
  }
}

type Client = {
  readonly name: string;
  /** The member it talks to now, counted on after each failure. */
  member: number;
  readonly random: SeededRandom;
};
