/** Lease renewals over etcd's bidirectional stream, as calls with answers. */
import { Status } from 'nice-grpc-common';
import type {
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import { AsyncBuffer } from './async-buffer.ts';
import { type StreamOptions, TransportFailure } from './transport.ts';

type Open = (
  requests: AsyncIterable<LeaseKeepAliveRequest>,
  options: StreamOptions,
) => AsyncIterable<LeaseKeepAliveResponse>;

type Waiter = {
  readonly resolve: (response: LeaseKeepAliveResponse) => void;
  readonly reject: (error: unknown) => void;
};

type Running = {
  readonly requests: AsyncBuffer<LeaseKeepAliveRequest>;
  readonly controller: AbortController;
  /** Answers carry the lease only; for one lease they come in the order of the requests. */
  readonly waiters: Map<bigint, Waiter[]>;
};

export class KeepAliveStream {
  readonly #open: Open;
  #running: Running | undefined;

  constructor(open: Open) {
    this.#open = open;
  }

  /** One renewal. An abort abandons the wait: the answer, when it comes, is dropped. */
  async renew(
    request: LeaseKeepAliveRequest,
    signal: AbortSignal,
  ): Promise<LeaseKeepAliveResponse> {
    const { requests, waiters } = this.#start();
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const line = waiters.get(request.ID) ?? [];
        line.push({ resolve, reject });
        waiters.set(request.ID, line);
        onAbort = () => reject(signal.reason);
        signal.addEventListener('abort', onAbort);
        requests.push(request);
      });
    } finally {
      if (onAbort !== undefined) signal.removeEventListener('abort', onAbort);
    }
  }

  close(): void {
    this.#running?.controller.abort();
  }

  #start(): Running {
    if (this.#running !== undefined) return this.#running;
    const running: Running = {
      requests: new AsyncBuffer(),
      controller: new AbortController(),
      waiters: new Map(),
    };
    this.#running = running;
    void this.#read(running);
    return running;
  }

  async #read(running: Running): Promise<void> {
    let failure: unknown = new TransportFailure(
      'status',
      Status.UNAVAILABLE,
      'the keep-alive stream ended',
      true,
    );
    try {
      const { signal } = running.controller;
      for await (const response of this.#open(running.requests, { signal })) {
        const line = running.waiters.get(response.ID);
        const waiter = line?.shift();
        if (line?.length === 0) running.waiters.delete(response.ID);
        waiter?.resolve(response);
      }
    } catch (error) {
      failure = error;
    } finally {
      if (this.#running === running) this.#running = undefined;
      running.requests.end();
      for (const line of running.waiters.values()) {
        for (const waiter of line) waiter.reject(failure);
      }
    }
  }
}
