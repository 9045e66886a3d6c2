/** What the bench asks of a client. A method that a system has nothing for is left out. */

export type Release = () => Promise<unknown>;

/** One connected client; every method is one operation of the store. */
export type BenchClient = {
  put(key: string, value: string): Promise<unknown>;
  /** Linearizable. */
  get?(key: string): Promise<string | null>;
  /** Puts `next` if the value is `expected`; says whether it did. */
  swap?(key: string, expected: string, next: string): Promise<boolean>;
  /** Acquires a lock nobody else wants; resolves with its release. */
  lock?(name: string): Promise<Release>;
  /** Waits for a lock that others want, too: in turn where the system has turns. */
  waitForLock?(name: string): Promise<Release>;
  /** Resolves once the watcher stands. */
  watch?(key: string, onValue: (value: string) => void): Promise<Release>;
  /** Tells the watchers of a key: by a put, unless the system has something of its own for it. */
  announce?(key: string, value: string): Promise<unknown>;
  /** Grants so many leases; resolves with what renews all of them once. */
  grantLeases?(count: number): Promise<() => Promise<unknown>>;
  /** Resolves as the leader, with what resigns. */
  campaign?(name: string, value: string): Promise<Release>;
  /** Tells the value of each new leader. Resolves once the observer stands. */
  observe?(name: string, onLeader: (value: string) => void): Promise<Release>;
  queue?(name: string): Promise<BenchQueue>;
  close(): Promise<void>;
};

export type BenchQueue = {
  push(value: string): Promise<unknown>;
  /** Handles jobs, so many at a time, until released. */
  consume(concurrency: number, handle: (value: string) => void): Promise<Release>;
  close(): Promise<void>;
};
