/** A store as the bench starts it: what is installed on this machine, under its own name. */

export type ServerName = 'conclave' | 'etcd' | 'zookeeper' | 'redis' | 'nats';

export type StartOptions = {
  readonly members: number;
  /** Beside the bench's own; for one member. */
  readonly environment?: Readonly<Record<string, string>>;
};

/** One member or several, each a process with a fresh directory on disk. */
export type Cluster = {
  /** host:port of all members, with commas between. */
  readonly endpoints: string;
  readonly pids: readonly number[];
  /** Kills the members and removes their data. */
  stop(): Promise<void>;
};

export type Server = {
  readonly name: ServerName;
  readonly title: string;
  /** What an acknowledged write has gone through. */
  readonly durability: string;
  /** Why it cannot be started here; undefined when it can. */
  missing(): string | undefined;
  version(): string;
  /** Resolves when it accepts connections; a client may still have to wait until it is served. */
  start(options: StartOptions): Promise<Cluster>;
};
