/**
 * Taking over a place that a former process of the session holds in a line: a permit, a share, a term.
 * As long as the key has the create revision it had when it was granted, nobody whom its holder would
 * have kept out can have held in between.
 *
 * What the place is worth (a mode, a weight, a candidate's value) is in the key, so it is read, judged
 * as of that revision, and written again with a stamp, if it is still as it was read. The stamp says
 * who holds: a former process that still runs finds out by it, from its watch and from its writes to the
 * place. Until then its guarded transactions pass, as the create revision is the same: what must be
 * fenced off from a former process compares tokens.
 *
 * Exchanges: 2.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import { hexId } from '../../sdk/hex-id.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { untilAnswered } from '../common/repeat.ts';
import { randomId } from '../names.ts';
import { adoptHold, type Holding, type HoldSubject, sessionLost } from './holding.ts';
import type { Membership } from './line-membership.ts';
import { decodeLineRecord, encodeLineRecord, type LineContent } from './line-record.ts';
import { parseSequencer } from './sequencer.ts';

/** A place that the session had, by its sequencer. */
export type FormerPlace = {
  readonly key: string;
  /** Which of the line's prefixes it is under. */
  readonly prefix: string;
  readonly attempt: string;
  readonly createRevision: bigint;
};

/** @throws ConclaveError INVALID_ARGUMENT when the sequencer is of another line or session */
export function formerPlace(
  { id }: Session,
  sequencer: string,
  prefixes: readonly string[],
): FormerPlace {
  const parsed = parseSequencer(sequencer);
  const prefix = prefixes.find((each) => parsed.key.startsWith(`${each}${id}-`));
  if (prefix === undefined || !('createRevision' in parsed)) {
    const allowed = `a sequencer of this name and session, such as '${prefixes[0]}${id}-7f@112'`;
    throw invalidArgument('sequencer', sequencer, allowed);
  }
  const { key, createRevision } = parsed;
  return { key, prefix, attempt: key.slice(prefix.length + id.length + 1), createRevision };
}

export type Look = {
  /** Where the places are that may be ahead. */
  readonly prefix: string;
  /** A key to read with them. */
  readonly beside?: string;
};

export type Seen = {
  readonly kv: KeyValue;
  readonly content: LineContent;
  /** Oldest first. */
  readonly ahead: readonly KeyValue[];
  readonly beside: KeyValue | null;
};

export type Settings = {
  readonly maxHoldMs?: number | undefined;
  readonly recheckMs?: number | undefined;
};

export type Takeover = {
  /** Its token is the revision of the write. */
  readonly holding: Holding;
  /** As it was written: with the stamp. */
  readonly content: LineContent;
  /** Whether a write to the key took the place over from here. */
  readonly isTakenOver: (kv: KeyValue) => boolean;
};

/** For a place that was never taken over: whether a write to its key does. */
export const isTakeover = (kv: KeyValue): boolean => stampIn(kv) !== undefined;

const stampIn = ({ value }: Pick<KeyValue, 'value'>): string | undefined =>
  decodeLineRecord(value).terms?.resumed;

/**
 * @param rewrite what the key is to say, or undefined when the place was not held
 * @throws ConclaveError the subject's loss code when the hold is over or was never granted, SESSION_LOST;
 *   what `rewrite` throws
 */
export async function takeOver(
  context: RecipeContext,
  subject: HoldSubject,
  former: FormerPlace,
  { prefix, beside = former.key }: Look,
  settings: Settings,
  rewrite: (seen: Seen) => LineContent | undefined,
): Promise<Takeover> {
  const { session } = context;
  const { recipe, name, lostCode } = subject;
  const { key, createRevision } = former;
  const { client, lease, id, signal } = session;
  session.assertLive();
  const stamp = randomId(client.random);
  const read = client.kv
    .txn()
    .then(
      op.get(key),
      op.get(beside),
      op.list({ prefix }, { order: 'create', maxCreateRevision: createRevision - 1n }),
    );
  const told = <T>(call: () => Promise<T>): Promise<T> =>
    untilAnswered(client, call, signal).catch((error: unknown) => {
      throw session.state === 'lost' ? sessionLost(session) : error;
    });
  const over = () =>
    new ConclaveError(
      lostCode,
      `The hold of ${recipe} '${name}' is over, or was never granted: acquire it anew`,
    );
  for (;;) {
    const { responses } = await told(() => read.commit());
    const [kv, besideIt, listed] = responses as readonly [
      KeyValue | null,
      KeyValue | null,
      ListResult,
    ];
    if (kv?.createRevision !== createRevision || hexId(kv.lease) !== id) throw over();
    const content = decodeLineRecord(kv.value);
    const done = (written: LineContent, value: string, revision: bigint): Takeover => {
      const isTakenOver = (later: KeyValue) =>
        later.modRevision > revision && stampIn(later) !== stamp;
      const holding = adopted(context, subject, former, { value, revision, isTakenOver }, settings);
      return { holding, content: written, isTakenOver };
    };
    // An attempt whose answer was lost did it.
    if (content.terms?.resumed === stamp) {
      return done(content, encodeLineRecord(content), kv.modRevision);
    }
    const next = rewrite({ kv, content, ahead: listed.kvs, beside: besideIt });
    if (next === undefined) throw over();
    const written = { ...next, terms: { ...next.terms, resumed: stamp } };
    const value = encodeLineRecord(written);
    const txn = client.kv
      .txn()
      .if(
        compare.modRevision(key, '==', kv.modRevision),
        compare.createRevision(key, '==', createRevision),
        compare.lease(key, '==', lease),
      )
      .then(op.put(key, value, { lease }));
    const result = await told(() => txn.commit());
    if (result.succeeded) return done(written, value, result.revision);
  }
}

function adopted(
  context: RecipeContext,
  subject: HoldSubject,
  { prefix, attempt, createRevision: own }: FormerPlace,
  written: {
    readonly value: string;
    readonly revision: bigint;
    readonly isTakenOver: (kv: KeyValue) => boolean;
  },
  { maxHoldMs, recheckMs }: Settings,
): Holding {
  const { value, revision, isTakenOver } = written;
  const membership: Membership = {
    prefix,
    attempt,
    value,
    onOwnWrite: isTakenOver,
    ...(recheckMs === undefined ? {} : { timing: { recheckMs } }),
  };
  const view = { own, revision, ahead: [], beside: null };
  return adoptHold(context, subject, membership, view, maxHoldMs, 'resume');
}
