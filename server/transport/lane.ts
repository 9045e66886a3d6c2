/**
 * Messages on their way to one member, on one stream. What is not yet with the operating system is
 * bounded: messages that do not fit are lost, as they may be on any network, and Raft finds out by
 * itself: it compares logs with every heartbeat.
 */
import type { Message } from '../raft/message.ts';
import type { ClientCall } from './client-call.ts';
import { encodeFrame } from './encode.ts';
import { PREFIX_BYTES, writePrefix } from './grpc.ts';
import type { PeerTraffic } from './traffic.ts';

/** Short messages travel together up to about this size. */
const FRAME_MESSAGES = 256;
const FRAME_BYTES = 1024 * 1024;

export type LaneLimits = {
  /** In one frame: the receiver refuses more. */
  readonly frameBytes: number;
  /** Under way at a time. A single frame may exceed it. */
  readonly queueBytes: number;
};

export class Lane {
  readonly #limits: LaneLimits;
  readonly #traffic: PeerTraffic;
  readonly #dropped: (messages: number, bytes: number) => void;
  #call: ClientCall | undefined;
  #queuedBytes = 0;

  constructor(
    limits: LaneLimits,
    traffic: PeerTraffic,
    dropped: (messages: number, bytes: number) => void,
  ) {
    this.#limits = limits;
    this.#traffic = traffic;
    this.#dropped = dropped;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  /** Undefined: nobody is there, everything is lost. */
  connect(call: ClientCall | undefined): void {
    this.#call = call;
    this.#queuedBytes = 0;
  }

  send(messages: readonly Message[]): void {
    if (this.#call === undefined) return;
    let from = 0;
    let bytes = 0;
    for (let at = 0; at < messages.length; at += 1) {
      const size = contentBytes(messages[at]);
      if (at > from && (bytes + size > FRAME_BYTES || at - from === FRAME_MESSAGES)) {
        this.#sendFrame(messages.slice(from, at));
        from = at;
        bytes = 0;
      }
      bytes += size;
    }
    if (from < messages.length) this.#sendFrame(from === 0 ? messages : messages.slice(from));
  }

  #sendFrame(messages: readonly Message[]): void {
    const call = this.#call;
    if (call === undefined) return;
    const { pieces, bytes } = encodeFrame(messages, PREFIX_BYTES);
    const [head] = pieces;
    const isFull = this.#queuedBytes > 0 && this.#queuedBytes + bytes > this.#limits.queueBytes;
    if (head === undefined || bytes > this.#limits.frameBytes || isFull) {
      this.#traffic.sentFailures += messages.length;
      this.#dropped(messages.length, bytes);
      return;
    }
    writePrefix(head, bytes);
    this.#queuedBytes += bytes;
    this.#traffic.sentBytes += bytes;
    call.sendPieces(pieces, () => {
      // What an earlier connection had under way no longer counts.
      if (this.#call === call) this.#queuedBytes -= bytes;
    });
  }
}

function contentBytes(message: Message | undefined): number {
  let bytes = 64;
  if (message?.kind === 'append') for (const { data } of message.entries) bytes += data.length + 16;
  else if (message?.kind === 'propose') {
    for (const { data } of message.proposals) bytes += data.length + 16;
  }
  return bytes;
}
