/** What the bench uses of redlock, whose package does not lead the compiler to its own types. */
declare module 'redlock' {
  import type { Redis } from 'ioredis';

  export default class Redlock {
    constructor(
      clients: Iterable<Redis>,
      settings: {
        /** -1 for ever. */
        readonly retryCount: number;
        readonly retryDelay: number;
        readonly retryJitter: number;
      },
    );
    acquire(resources: string[], durationMs: number): Promise<{ release(): Promise<unknown> }>;
    on(event: 'error', listener: (error: Error) => void): this;
  }
}
