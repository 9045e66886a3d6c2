/**
 * A name resolver for @grpc/grpc-js: `conclave:///users` are the instances of the service 'users', as
 * a pool of this client knows them. Changes are pushed to channels as they happen; while the store
 * cannot be reached, channels keep what they know.
 *
 * The interface of resolvers is experimental in grpc-js (grpc/grpc-node#719); only what it exports as
 * `experimental` is used here, and nothing else of conclave needs this file.
 */
import * as grpcOfConclave from '@grpc/grpc-js';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import { checkOptions } from '../common/option-checks.ts';
import { escapeName, unescapeName } from '../names.ts';
import type { RecipeSession } from '../session.ts';
import { roundOf } from './grpc-endpoints.ts';
import type { Pool } from './pool.ts';
import { type PoolOptions, poolRules } from './pool-options.ts';

/** What is used of `@grpc/grpc-js`. */
export type GrpcModule = {
  readonly experimental: Pick<
    typeof grpcOfConclave.experimental,
    'registerResolver' | 'splitHostPort' | 'statusOrFromError' | 'statusOrFromValue'
  >;
  readonly status: { readonly UNAVAILABLE: number };
};

export type GrpcResolverOptions = {
  /** @default 'conclave' */
  readonly scheme?: string;
  /** For several sessions in a process: 'staging' resolves `conclave://staging/users`. @default '' */
  readonly authority?: string;
  /** How the pools behind names watch and judge instances. The strategy is gRPC's affair. */
  readonly pool?: Omit<PoolOptions<unknown>, 'strategy' | 'eject'>;
  /** Whether instances of more weight get more calls. @default true */
  readonly weights?: boolean;
  /** How long calls wait for the first answer of the store before they fail. @default '10s' */
  readonly patience?: Duration;
  /** The copy of grpc-js that the channels are of, if the process has several. @default conclave's */
  readonly grpc?: GrpcModule;
};

type Settings = {
  readonly session: RecipeSession;
  readonly pool: Omit<PoolOptions<unknown>, 'strategy' | 'eject'>;
  readonly heedsWeights: boolean;
  readonly patienceMs: number;
};

type Target = Parameters<typeof grpcOfConclave.experimental.uriToString>[0];
type Listener = grpcOfConclave.experimental.ResolverListener;
type Endpoint = grpcOfConclave.experimental.Endpoint;

/** By module, scheme and authority: what grpc-js keeps is as global. */
const registered = new WeakMap<GrpcModule['experimental'], Map<string, Source>>();

const placeOf = (scheme: string, authority: string) => `${scheme}://${authority}/`;

const knownOptions = {
  scheme: true,
  authority: true,
  pool: true,
  weights: true,
  patience: true,
  grpc: true,
} as const;

/** Schemes that grpc-js, or its companions, resolve. */
const taken = new Set(['dns', 'ipv4', 'ipv6', 'unix', 'unix-abstract', 'xds', 'http', 'https']);

/**
 * Makes channels of this process understand `conclave:///service`, until it is closed or the session
 * is. A channel without a service config of its own gets round robin.
 *
 * @throws ConclaveError INVALID_ARGUMENT, MISMATCH when the scheme and authority are registered already
 */
export function registerGrpcResolver(
  session: RecipeSession,
  options: GrpcResolverOptions = {},
): GrpcResolver {
  checkOptions<GrpcResolverOptions>(options, knownOptions);
  const { scheme = 'conclave', authority = '', pool = {}, grpc = grpcOfConclave } = options;
  if (!/^[a-z][a-z0-9+.-]*$/.test(scheme) || taken.has(scheme)) {
    throw invalidArgument('scheme', scheme, 'a scheme of URIs that gRPC does not resolve itself');
  }
  if (!/^[^/]*$/.test(authority)) throw invalidArgument('authority', authority, 'a text without /');
  // What is wrong with these options is told here, not in the background of a call.
  poolRules(pool);
  const patienceMs = parseDuration(options.patience ?? '10s', 'patience');
  const all = registered.get(grpc.experimental) ?? new Map<string, Source>();
  registered.set(grpc.experimental, all);
  const place = placeOf(scheme, authority);
  if (all.get(place)?.isOpen) {
    throw new ConclaveError(
      'MISMATCH',
      `Names under '${place}' are resolved already: close that first`,
    );
  }
  const settings = { session, pool, heedsWeights: options.weights ?? true, patienceMs };
  const resolver: Source = new Source(settings, () => {
    if (all.get(place) === resolver) all.delete(place);
  });
  all.set(place, resolver);
  grpc.experimental.registerResolver(scheme, resolverClass(grpc, all));
  return resolver;
}

export interface GrpcResolver extends AsyncDisposable {
  /** Whether names are resolved: neither it nor its session was closed. */
  readonly isOpen: boolean;
  /** The services that channels ask for, and their pools. */
  readonly pools: ReadonlyMap<string, Pool<unknown>>;
  /** Channels keep what they know and learn nothing new; later ones fail. Idempotent; never rejects. */
  close(): Promise<void>;
}

/** The names of one session. Channels of the same service share a pool. */
class Source implements GrpcResolver {
  readonly settings: Settings;
  readonly #onClosed: () => void;
  readonly #pools = new Map<string, { readonly pool: Pool<unknown>; users: number }>();
  #isClosed = false;

  constructor(settings: Settings, onClosed: () => void) {
    this.settings = settings;
    this.#onClosed = onClosed;
  }

  get isOpen(): boolean {
    return !this.#isClosed && !isConclaveError(this.settings.session.signal.reason, 'CLOSED');
  }

  get pools(): ReadonlyMap<string, Pool<unknown>> {
    return new Map([...this.#pools].map(([service, { pool }]) => [service, pool]));
  }

  /** The pool of a service, until it is given back by `letGo`. */
  borrow(service: string): Pool<unknown> {
    const known = this.#pools.get(service);
    if (known) {
      known.users += 1;
      return known.pool;
    }
    const { session, pool: options } = this.settings;
    const pool = session.discovery<unknown>(service).pool(options);
    this.#pools.set(service, { pool, users: 1 });
    return pool;
  }

  letGo(service: string): void {
    const known = this.#pools.get(service);
    if (!known) return;
    known.users -= 1;
    if (known.users > 0) return;
    this.#pools.delete(service);
    void known.pool.close();
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#onClosed();
    const pools = [...this.#pools.values()];
    this.#pools.clear();
    await Promise.all(pools.map(({ pool }) => pool.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const serviceOf = (target: Target): string => unescapeName(target.path.replace(/^\//, ''));

/** The service as the name of a host: what is not allowed in one becomes a hyphen. */
function hostOf(service: string): string {
  const host = service.replace(/[^a-zA-Z0-9._-]/g, '-');
  // Numbers alone would be taken for an address.
  return URL.canParse(`http://${host}`) && /[a-zA-Z]/.test(host) ? host : 'conclave';
}

/** What grpc-js makes one of for each channel. */
function resolverClass(grpc: GrpcModule, all: ReadonlyMap<string, Source>) {
  return class {
    readonly #target: Target;
    readonly #listener: Listener;
    readonly #hasConfig: boolean;
    #resolution: Resolution | undefined;

    constructor(target: Target, listener: Listener, options: grpcOfConclave.ChannelOptions) {
      this.#target = target;
      this.#listener = listener;
      this.#hasConfig = options['grpc.service_config'] !== undefined;
    }

    /** Asked for at first, when a connection is lost, and after an idle time. */
    updateResolution(): void {
      if (this.#resolution) {
        this.#resolution.refresh();
        return;
      }
      const { scheme = '', authority = '' } = this.#target;
      const tell = new Report(grpc, this.#listener, this.#hasConfig);
      const find = () => all.get(placeOf(scheme, authority));
      this.#resolution = new Resolution(find, serviceOf(this.#target), tell);
    }

    destroy(): void {
      this.#resolution?.end();
      this.#resolution = undefined;
    }

    /** What a channel calls its servers by, for TLS too. @throws ConclaveError INVALID_ARGUMENT */
    static getDefaultAuthority(target: Target): string {
      const service = serviceOf(target);
      escapeName(service, 'service');
      return hostOf(service);
    }
  };
}

/** What a channel is told. */
class Report {
  readonly #grpc: GrpcModule;
  readonly #listener: Listener;
  readonly #hasConfig: boolean;
  /** What it knows, as text. */
  #told: string | undefined;

  constructor(grpc: GrpcModule, listener: Listener, hasConfig: boolean) {
    this.#grpc = grpc;
    this.#listener = listener;
    this.#hasConfig = hasConfig;
  }

  /** @param addresses in the order of a round, with repetitions */
  endpoints(addresses: readonly string[], service: string): void {
    const told = addresses.join('\n');
    // Each telling makes the channel set up its balancing anew.
    if (this.#told === told) return;
    this.#told = told;
    const { statusOrFromValue } = this.#grpc.experimental;
    const unusable = addresses.filter((address) => this.#endpoint(address) === undefined);
    const endpoints = addresses.flatMap((address) => this.#endpoint(address) ?? []);
    const note = unusable.length > 0 ? `not host:port: ${[...new Set(unusable)].join(', ')}` : '';
    this.#listener(statusOrFromValue(endpoints), {}, this.#config, note);
    // With an empty list alone, round robin lets calls wait for their deadline.
    if (endpoints.length === 0) this.trouble(note || `no instance of '${service}' is up`);
  }

  /** A channel that knows endpoints keeps them. */
  trouble(details: string): void {
    const { statusOrFromError } = this.#grpc.experimental;
    const code = this.#grpc.status.UNAVAILABLE;
    this.#listener(statusOrFromError<Endpoint[]>({ code, details }), {}, this.#config, '');
  }

  /** null leaves it to the channel. The same each time: another one ends all connections. */
  get #config(): Parameters<Listener>[2] {
    const config = { loadBalancingConfig: [{ round_robin: {} }], methodConfig: [] };
    return this.#hasConfig ? null : this.#grpc.experimental.statusOrFromValue(config);
  }

  #endpoint(address: string): Endpoint | undefined {
    if (address.startsWith('unix:')) return { addresses: [{ path: address.slice(5) }] };
    const { host, port } = this.#grpc.experimental.splitHostPort(address) ?? {};
    if (host === undefined || port === undefined) return undefined;
    return { addresses: [{ host, port }] };
  }
}

/** From when a channel wants to know a service until it does not. */
class Resolution {
  readonly #find: () => Source | undefined;
  readonly #service: string;
  readonly #report: Report;
  #source: Source | undefined;
  #pool: Pool<unknown> | undefined;
  #letGo: () => void = () => undefined;
  #hasEnded = false;

  constructor(find: () => Source | undefined, service: string, report: Report) {
    this.#find = find;
    this.#service = service;
    this.#report = report;
    this.#startSoon();
  }

  /** Something is wrong with what was told: reads it again, from another session if this one is over. */
  refresh(): void {
    if (this.#source?.isOpen) this.#pool?.refresh();
    else this.#startSoon();
  }

  end(): void {
    this.#hasEnded = true;
    this.#letGo();
  }

  /** A listener must not be called while its resolver is being made or asked. */
  #startSoon(): void {
    queueMicrotask(() => this.#start());
  }

  #start(): void {
    const source = this.#find();
    if (this.#hasEnded || this.#source?.isOpen) return;
    if (!source?.isOpen) {
      this.#report.trouble('no open session of conclave resolves this name: registerGrpcResolver');
      return;
    }
    this.#letGo();
    const { session, heedsWeights, patienceMs } = source.settings;
    const service = this.#service;
    const pool = source.borrow(service);
    this.#source = source;
    this.#pool = pool;
    const cancel = session.client.clock.setTimer(patienceMs, () => {
      this.#report.trouble(`the store has not told the instances of '${service}' yet`);
    });
    const subscription = pool.selection$.subscribe((selection) => {
      cancel();
      const round = roundOf(selection, heedsWeights);
      this.#report.endpoints(
        round.map(({ address }) => address),
        service,
      );
    });
    this.#letGo = () => {
      cancel();
      subscription.unsubscribe();
      source.letGo(service);
    };
  }
}
