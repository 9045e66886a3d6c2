/**
 * What clients did and what they were told, recorded while a server is being tortured. An operation
 * without an answer may have happened or not; one that was acknowledged must have happened.
 */

/** A change as one watch event shows it. */
export type Change = {
  readonly type: 'put' | 'delete';
  readonly key: string;
  /** Empty for deletions. */
  readonly value: string;
  readonly createRevision: bigint;
  readonly version: bigint;
  readonly lease: bigint;
};

/** Everything that happened in one revision, in order. */
export type RevisionOfLog = { readonly revision: bigint; readonly changes: readonly Change[] };

/** Values are unique in a history, so that a value tells who wrote it. */
export type Action =
  | { readonly kind: 'put'; readonly key: string; readonly value: string; readonly lease: bigint }
  | { readonly kind: 'delete'; readonly key: string }
  /** Puts all of `puts` if `key` was last changed at `expected` (0: absent). */
  | {
      readonly kind: 'swap';
      readonly key: string;
      readonly expected: bigint;
      readonly puts: readonly { readonly key: string; readonly value: string }[];
    }
  | { readonly kind: 'grant'; readonly lease: bigint }
  | { readonly kind: 'revoke'; readonly lease: bigint }
  | { readonly kind: 'read'; readonly key: string };

export type Answer =
  /** No answer, or one that leaves the outcome open. */
  | { readonly kind: 'unknown' }
  /** Refused for good, without any effect. */
  | { readonly kind: 'refused'; readonly reason: string }
  | {
      readonly kind: 'acknowledged';
      /** Of the response's header. */
      readonly revision: bigint;
      /** Whether it says that something changed. Unknown to the client for a revoke. */
      readonly changed: boolean | undefined;
      /** For reads: what was found. */
      readonly found?: { readonly value: string; readonly modRevision: bigint } | undefined;
    };

export type Operation = {
  readonly id: number;
  readonly action: Action;
  /** The newest revision that any client had been told when this operation began. */
  readonly floor: bigint;
  readonly answer: Answer;
};
