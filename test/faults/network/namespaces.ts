/** A network namespace for each member, joined by a bridge; the packet filter of each cuts its links. */
import { execFile } from 'node:child_process';
import { networkInterfaces } from 'node:os';
import { promisify } from 'node:util';
import { note } from '../ledger.ts';
import type { Network, Site } from './network.ts';

const run = promisify(execFile);
const clientPort = 2379;
const peerPort = 2380;
const table = ['inet', 'conclave_faults'] as const;

export class NamespaceNetwork implements Network {
  readonly kind = 'namespaces';
  readonly #bridge: string;
  /** The first three bytes of every address. */
  readonly #subnet: string;
  readonly #sites = new Map<number, Site>();

  private constructor(bridge: string, subnet: string) {
    this.#bridge = bridge;
    this.#subnet = subnet;
  }

  static async create(): Promise<NamespaceNetwork> {
    const network = new NamespaceNetwork(`cv${process.pid.toString(36)}`, freeSubnet());
    note('link', network.#bridge);
    await run('ip', ['link', 'add', network.#bridge, 'type', 'bridge']);
    await run('ip', ['addr', 'add', `${network.#subnet}.254/24`, 'dev', network.#bridge]);
    await run('ip', ['link', 'set', network.#bridge, 'up']);
    return network;
  }

  async site(index: number): Promise<Site> {
    const known = this.#sites.get(index);
    if (known !== undefined) return known;
    const name = this.#namespace(index);
    const [outer, inner] = [`${name}o`, `${name}i`];
    const address = this.#address(index);
    note('namespace', name);
    note('link', outer);
    await run('ip', ['netns', 'add', name]);
    await run('ip', ['link', 'add', outer, 'type', 'veth', 'peer', 'name', inner]);
    await run('ip', ['link', 'set', outer, 'master', this.#bridge, 'up']);
    await run('ip', ['link', 'set', inner, 'netns', name]);
    await run('ip', ['-n', name, 'addr', 'add', `${address}/24`, 'dev', inner]);
    for (const device of [inner, 'lo']) await run('ip', ['-n', name, 'link', 'set', device, 'up']);
    await this.#filter(index, ['add', 'table', ...table]);
    const chain = '{ type filter hook output priority -300 ; }';
    await this.#filter(index, ['add', 'chain', ...table, 'out', chain]);
    const site = {
      prefix: this.#enter(index),
      client: `${address}:${clientPort}`,
      peer: `${address}:${peerPort}`,
      advertisedPeer: `${address}:${peerPort}`,
    };
    this.#sites.set(index, site);
    return site;
  }

  occupy(): void {
    // The address tells.
  }

  async cut(from: number, to: number): Promise<void> {
    const packetsTo = ['ip', 'daddr', this.#address(to)];
    await this.#filter(from, ['add', 'rule', ...table, 'out', ...packetsTo, 'counter', 'drop']);
  }

  async heal(): Promise<void> {
    for (const index of this.#sites.keys())
      await this.#filter(index, ['flush', 'chain', ...table, 'out']);
  }

  async lost(): Promise<number> {
    let packets = 0;
    for (const index of this.#sites.keys()) {
      const rules = await this.#filter(index, ['list', 'chain', ...table, 'out']);
      for (const [, count] of rules.matchAll(/counter packets (\d+)/g)) packets += Number(count);
    }
    return packets;
  }

  async close(): Promise<void> {
    for (const index of this.#sites.keys())
      await run('ip', ['netns', 'del', this.#namespace(index)]);
    this.#sites.clear();
    await run('ip', ['link', 'del', this.#bridge]);
  }

  #namespace(index: number): string {
    return `${this.#bridge}n${index}`;
  }

  #address(index: number): string {
    return `${this.#subnet}.${index + 1}`;
  }

  async #filter(index: number, words: readonly string[]): Promise<string> {
    const [program, ...rest] = [...this.#enter(index), 'nft', ...words] as const;
    const { stdout } = await run(program, rest);
    return stdout;
  }

  /**
   * Not `ip netns exec`: it makes a mount namespace, too, whose copies of the mounts would keep the
   * disks of other members in use when their power is cut.
   */
  #enter(index: number): readonly [string, string] {
    return ['nsenter', `--net=/run/netns/${this.#namespace(index)}`];
  }
}

/** A private network of 256 addresses that no interface of this machine uses. */
function freeSubnet(): string {
  const used = Object.values(networkInterfaces())
    .flat()
    .map((address) => address?.address ?? '');
  for (let third = process.pid % 250; ; third = (third + 1) % 250) {
    const subnet = `10.231.${third}`;
    if (!used.some((address) => address.startsWith(`${subnet}.`))) return subnet;
  }
}
