/** Publishing: messages of one transaction, which takes effect once however often it is repeated. */
import { type Codec, encodeWith } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import {
  type Compare,
  compare,
  type Operations,
  op,
  type PutOperation,
  type Txn,
} from '../../sdk/txn.ts';
import { checkOptions } from '../common/option-checks.ts';
import { ResultLease } from '../common/result-lease.ts';
import type { TimeLimit } from '../common/time-limit.ts';
import { escapeName, randomId } from '../names.ts';
import { commitOnce, type OnceOutcome, type OnceWrite } from '../values/commit-once.ts';
import { spentAtOnce, spentRecords } from '../values/spent-records.ts';
import {
  envelope,
  type Message,
  messagesMax,
  type NewMessage,
  publicationBytesMax,
} from './message.ts';
import type { TopicCore } from './topic-core.ts';
import { messageId, parseMessageKey } from './topic-keys.ts';

export type PublishOptions = TimeLimit & {
  /**
   * The publication's own name, 1 to 200 bytes: publishing under it again, by whomever, within two
   * minutes at least, adds nothing. @default none
   */
  readonly id?: string;
};

export type Published = {
  /** The revision that holds all messages of the publication. */
  readonly revision: bigint;
  /** Whether it had been published under the same id before; nothing was added then. */
  readonly duplicate: boolean;
};

/** A message that was received may be published as it is: what is not the caller's to say is left out. */
type MessageFields = Partial<NewMessage<unknown> & Message<unknown>>;

const knownFields = {
  data: true,
  key: true,
  headers: true,
  id: true,
  revision: true,
  publishedAt: true,
} as const satisfies Record<keyof MessageFields, true>;

const dedupMs = 120_000;

export class Publisher {
  readonly #core: TopicCore;
  readonly #dedup: ResultLease;
  /** Tells this publisher's messages from those of all others. */
  readonly #name: string;
  #sequence = 0;

  constructor(core: TopicCore) {
    this.#core = core;
    this.#dedup = new ResultLease(core.client, dedupMs);
    this.#name = randomId(core.client.random);
  }

  async publish<T>(
    messages: readonly NewMessage<T>[],
    codec: Codec<T>,
    id: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Published> {
    const { keys, client, context, retention } = this.#core;
    if (!Array.isArray(messages)) throw invalidArgument('messages', messages, 'a list of messages');
    if (messages.length === 0 || messages.length > messagesMax) {
      throw invalidArgument('messages', messages.length, `1 to ${messagesMax} messages`);
    }
    const nowMs = client.clock.wallMs();
    const puts = messages.map((message) => this.#put(message, codec, nowMs));
    checkSize(puts);
    const named = id === undefined ? undefined : `${keys.op}id/${escapeName(id, 'id')}`;
    await retention.agree(signal);
    const session = await this.#core.keeper.live(signal);
    const attempt = `${session.id}-${randomId(client.random)}`;
    const records = spentRecords(context, keys.root);
    const spent = records.splice(0, spentAtOnce);
    let removed = false;
    try {
      const key = named ?? `${keys.op}${attempt}`;
      const publication = {
        key,
        record: attempt,
        compares: [],
        writes: [...puts, ...spent.map((old) => op.delete(old))],
        reads: [] as const,
        // Nothing but its own record can refuse it.
        fence: false,
      };
      const outcome =
        named === undefined
          ? await commitOnce(session, { ...publication, lease: session.lease }, signal)
          : await this.#commitNamed(session, publication, signal);
      if (outcome.kind === 'recorded') {
        const mine = Buffer.from(outcome.record.value).toString('utf8') === attempt;
        removed = mine;
        return { revision: outcome.record.createRevision, duplicate: !mine };
      }
      if (outcome.kind === 'refused') {
        throw new ConclaveError('INTERNAL', 'A publication without conditions was refused');
      }
      removed = true;
      if (outcome.alone && named === undefined) records.push(key);
      return { revision: outcome.revision, duplicate: false };
    } finally {
      if (!removed) records.push(...spent);
    }
  }

  /** With the lease that ids live by; with another when the store does not know that one any more. */
  async #commitNamed(
    session: Session,
    publication: Omit<OnceWrite<readonly []>, 'lease'>,
    signal: AbortSignal | undefined,
  ): Promise<OnceOutcome<readonly []>> {
    for (let isRepeated = false; ; isRepeated = true) {
      const lease = await this.#dedup.current(signal);
      try {
        return await commitOnce(session, { ...publication, lease }, signal);
      } catch (error) {
        if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
        this.#dedup.forget(lease);
        // What may have been published went with the record of it: again would be twice.
        if (!isRepeated && error.outcome !== 'unknown') continue;
        const message = `The lease of ids was lost before the publication was confirmed`;
        throw new ConclaveError('SESSION_LOST', message, { cause: error, outcome: error.outcome });
      }
    }
  }

  /**
   * The transaction, which publishes a message as well if it succeeds. Committed twice, as a value, it
   * takes effect once: the message's key must not exist.
   */
  publishIn<T, Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
    message: NewMessage<T>,
    codec: Codec<T>,
  ): Txn<readonly [...Then, PutOperation], Else> {
    const given: { readonly parts?: unknown } | null | undefined = txn;
    if (typeof given?.parts !== 'object') {
      throw invalidArgument('txn', given, 'a transaction, as kv.txn() makes it');
    }
    const before = txn.parts.success.filter(
      (operation): operation is PutOperation =>
        operation.kind === 'put' && keyText(operation).startsWith(this.#core.keys.message),
    );
    if (before.length >= messagesMax) {
      throw invalidArgument('txn', before.length, `less than ${messagesMax} messages so far`);
    }
    // A clock that is set back must not turn the order of one publication.
    const wallMs = this.#core.client.clock.wallMs();
    const put = this.#put(message, codec, Math.max(wallMs, ...before.map(this.#publishedMs)));
    checkSize([...before, put]);
    const isNew: Compare = compare.createRevision(put.key, '==', 0n);
    return txn.if(isNew).then(put);
  }

  readonly #publishedMs = (put: PutOperation): number =>
    parseMessageKey(this.#core.keys, keyText(put))?.publishedMs ?? 0;

  #put<T>(message: NewMessage<T>, codec: Codec<T>, publishedMs: number): PutOperation {
    checkOptions<MessageFields>(message, knownFields, 'message');
    const { data, key, headers } = message;
    if (key !== undefined) escapeName(key, 'key');
    checkHeaders(headers);
    const value = envelope(
      {
        v: 1,
        ...(key === undefined ? {} : { key }),
        ...(headers === undefined ? {} : { headers }),
      },
      encodeWith(codec, data),
    );
    checkSize([op.put('-', value)]);
    this.#sequence = (this.#sequence + 1) % 2 ** 32;
    const id = messageId(Math.floor(publishedMs), this.#name, this.#sequence, value.length);
    return op.put(this.#core.keys.message + id, value);
  }
}

function checkHeaders(headers: Readonly<Record<string, string>> | undefined): void {
  if (headers !== undefined && (typeof headers !== 'object' || headers === null)) {
    throw invalidArgument('message.headers', headers, 'an object of texts');
  }
  for (const [name, value] of Object.entries(headers ?? {})) {
    if (typeof value !== 'string') throw invalidArgument(`headers.${name}`, value, 'a text');
  }
}

/** @throws ConclaveError TOO_LARGE */
function checkSize(puts: readonly PutOperation[]): void {
  const bytes = puts.reduce((sum, { value }) => sum + Buffer.byteLength(value), 0);
  if (bytes <= publicationBytesMax) return;
  throw new ConclaveError(
    'TOO_LARGE',
    `Cannot publish ${bytes} bytes at once: keys, headers and data together may have ${publicationBytesMax}`,
  );
}

const keyText = ({ key }: PutOperation): string =>
  typeof key === 'string' ? key : Buffer.from(key).toString('utf8');
