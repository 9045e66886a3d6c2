/**
 * Clients that write, read, swap, and use leases as fast as they are answered, and record all of it.
 * They stop when told to, or by themselves once the server is gone.
 */
import { ClientError } from 'nice-grpc-common';
import type { Action, Answer, Operation } from '../../support/checkers/history.ts';
import { SeededRandom } from '../../support/generators/random.ts';
import type { WireClient } from '../../support/wire-client.ts';

const keyCount = 48;
const callTimeoutMs = 15_000;
const leaseTtlSeconds = 36_000n;
/** gRPC codes that leave open whether the request was carried out. */
const openCodes: ReadonlySet<number> = new Set([1, 2, 4, 13, 14, 15]);
const leaseNotFound = 'etcdserver: requested lease not found';

const bytes = (text: string): Buffer => Buffer.from(text);

export class Load {
  /** Everything since the last `take`. */
  #operations: Operation[] = [];
  readonly #random: SeededRandom;
  /** Leases whose grant was acknowledged and which nobody has tried to revoke. */
  readonly leases = new Set<bigint>();
  /** The newest revision any answer has named. */
  newestRevision = 0n;
  acknowledged = 0;
  /** Operations without an answer. */
  open = 0;
  #inFlight = 0;
  #nextId = 1;
  /** What was last seen of a key, for swaps that have a chance to succeed. */
  readonly #seen = new Map<string, bigint>();
  #stopping = false;
  #running: Promise<unknown> = Promise.resolve();
  #cutOffMs: number | undefined;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  start(client: WireClient, clients: number): void {
    this.#stopping = false;
    this.#cutOffMs = undefined;
    this.acknowledged = 0;
    this.open = 0;
    this.#running = Promise.all(
      Array.from({ length: clients }, () => this.#client(client, this.#random.fork())),
    );
    // A refusal that should not be is reported by stop().
    this.#running.catch(() => undefined);
  }

  /**
   * From here on answers count as missing: they may have been sent by a server whose disk was
   * already gone.
   */
  cutOff(): void {
    this.#cutOffMs = performance.now();
  }

  /** Resolves once no operation is in flight any more. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  /** The operations recorded since the last call. */
  take(): Operation[] {
    const taken = this.#operations;
    this.#operations = [];
    return taken;
  }

  async #client(client: WireClient, random: SeededRandom): Promise<void> {
    while (!this.#stopping) {
      const action = this.#choose(random);
      const floor = this.newestRevision;
      const id = this.#nextId++;
      this.#inFlight += 1;
      const answer = await this.#perform(client, action);
      this.#inFlight -= 1;
      this.#operations.push({ id, action, floor, answer });
      if (answer.kind === 'unknown') {
        this.open += 1;
        return;
      }
      if (answer.kind === 'acknowledged') {
        this.acknowledged += 1;
        if (answer.revision > this.newestRevision) this.newestRevision = answer.revision;
        if (action.kind === 'grant') this.leases.add(action.lease);
      }
    }
  }

  #choose(random: SeededRandom): Action {
    const key = `key-${random.below(keyCount).toString().padStart(3, '0')}`;
    const value = `value-${this.#nextId}-${random.below(2 ** 32)}`;
    const leases = [...this.leases];
    const lease = leases[random.below(Math.max(1, leases.length))] ?? 0n;
    return random.weighted<() => Action>([
      [40, () => ({ kind: 'put', key, value, lease: 0n })],
      [10, () => ({ kind: 'put', key, value, lease })],
      [10, () => ({ kind: 'delete', key })],
      [
        20,
        () => ({
          kind: 'swap',
          key,
          expected: this.#seen.get(key) ?? 0n,
          // Three keys change together or not at all.
          puts: [key, `pair-${key}`, `third-${key}`].map((name, index) => ({
            key: name,
            value: `${value}-${index}`,
          })),
        }),
      ],
      [4, () => ({ kind: 'grant', lease: BigInt(this.#nextId) * 1000n + 7n })],
      [
        2,
        () => {
          this.leases.delete(lease);
          return lease === 0n ? { kind: 'read', key } : { kind: 'revoke', lease };
        },
      ],
      [14, () => ({ kind: 'read', key })],
    ])();
  }

  async #perform(client: WireClient, action: Action): Promise<Answer> {
    try {
      const answer = await this.#send(client, action, AbortSignal.timeout(callTimeoutMs));
      return this.#cutOffMs === undefined ? answer : { kind: 'unknown' };
    } catch (error) {
      if (error instanceof ClientError && !openCodes.has(error.code)) {
        if (error.details === leaseNotFound) return { kind: 'refused', reason: error.details };
        throw new Error(`${action.kind} was refused: ${error.code} ${error.details}`);
      }
      return { kind: 'unknown' };
    }
  }

  async #send(client: WireClient, action: Action, signal: AbortSignal): Promise<Answer> {
    const { kv, lease } = client;
    const acknowledged = (
      header: { revision: bigint } | undefined,
      changed: boolean | undefined,
    ): Answer => ({ kind: 'acknowledged', revision: header?.revision ?? 0n, changed });
    switch (action.kind) {
      case 'put': {
        const { header } = await kv.put(
          { key: bytes(action.key), value: bytes(action.value), lease: action.lease },
          { signal },
        );
        this.#seen.set(action.key, header?.revision ?? 0n);
        return acknowledged(header, true);
      }
      case 'delete': {
        const { header, deleted } = await kv.deleteRange({ key: bytes(action.key) }, { signal });
        this.#seen.delete(action.key);
        return acknowledged(header, deleted > 0n);
      }
      case 'swap': {
        const { header, succeeded } = await kv.txn(
          {
            compare: [
              {
                key: bytes(action.key),
                target: 2,
                result: 0,
                targetUnion: { $case: 'modRevision', value: action.expected },
              },
            ],
            success: action.puts.map((put) => ({
              request: {
                $case: 'requestPut',
                value: { key: bytes(put.key), value: bytes(put.value) },
              },
            })),
          },
          { signal },
        );
        if (succeeded) this.#seen.set(action.key, header?.revision ?? 0n);
        return acknowledged(header, succeeded);
      }
      case 'grant': {
        const { header } = await lease.leaseGrant(
          { ID: action.lease, TTL: leaseTtlSeconds },
          { signal },
        );
        return acknowledged(header, false);
      }
      case 'revoke': {
        const { header } = await lease.leaseRevoke({ ID: action.lease }, { signal });
        return acknowledged(header, undefined);
      }
      case 'read': {
        const { header, kvs } = await kv.range({ key: bytes(action.key) }, { signal });
        const [kv0] = kvs;
        if (kv0 === undefined) this.#seen.delete(action.key);
        else this.#seen.set(action.key, kv0.modRevision);
        return {
          kind: 'acknowledged',
          revision: header?.revision ?? 0n,
          changed: false,
          found:
            kv0 === undefined
              ? undefined
              : { value: kv0.value.toString(), modRevision: kv0.modRevision },
        };
      }
    }
  }
}
