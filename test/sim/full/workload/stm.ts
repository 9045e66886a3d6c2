/**
 * A bank on transactions of functions: money moves, one of two is always on call, and three seats are
 * taken by whoever comes first. Judged twice: by what a bank promises at every revision, and by whether
 * what each transaction had read was so right before it took effect.
 */
import type { RecipeSession } from '../../../../recipes/session.ts';
import type { StmTransaction } from '../../../../recipes/stm/stm-transaction.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { applyChanges, type Entry } from '../../../lin/store.ts';
import {
  checkTransactions,
  type Transaction,
  type TransactionRead,
} from '../../../lin/transactions.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const accounts = ['bank/account/0', 'bank/account/1', 'bank/account/2'];
/** What an account holds that was never written. */
const opening = 10;
const onCall = ['bank/on-call/ada', 'bank/on-call/ben'];
const seatPrefix = 'bank/seat/';
const seats = 3;
const places = ['a', 'b', 'c', 'd', 'e'];

/** One run of a function, told for the check: all it reads of others is read before it writes. */
class Told {
  readonly reads: TransactionRead[] = [];
  readonly writes = new Map<string, string | undefined>();
  readonly #tx: StmTransaction;

  constructor(tx: StmTransaction) {
    this.#tx = tx;
  }

  async get<T>(key: string): Promise<T | undefined> {
    const value = await this.#tx.get<T>(key);
    this.reads.push({ key, value: value === undefined ? undefined : JSON.stringify(value) });
    return value;
  }

  async seats(limit?: number): Promise<readonly string[]> {
    const found = await this.#tx.range(
      { prefix: seatPrefix },
      limit === undefined ? {} : { limit },
    );
    this.reads.push({
      ...{ from: seatPrefix, to: `${seatPrefix}~` },
      ...(limit === undefined ? {} : { limit }),
      found: found.map(({ key, value }) => [key, JSON.stringify(value)] as const),
    });
    return found.map(({ key }) => key);
  }

  put(key: string, value: unknown): void {
    this.#tx.put(key, value);
    this.writes.set(key, JSON.stringify(value));
  }

  delete(key: string): void {
    this.#tx.delete(key);
    this.writes.set(key, undefined);
  }

  /** Ranges show the own writes. */
  async checkOwn(): Promise<void> {
    const shown = new Set((await this.#tx.range({ prefix: seatPrefix })).map(({ key }) => key));
    for (const [key, value] of this.writes) {
      if (!key.startsWith(seatPrefix)) continue;
      const isShown = shown.has(key);
      hold(isShown === (value !== undefined), 60, () => `${key}: ${value} is shown: ${isShown}`);
    }
  }
}

type Act = (told: Told, client: ClientContext, number: number) => Promise<void>;

type Kind = {
  readonly writes?: boolean;
  readonly isolation?: Transaction['isolation'];
};

export class StmWorkload implements Workload {
  readonly #transactions: Transaction[] = [];
  readonly #acknowledged: string[] = [];

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#turn(client, session).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
  }

  check(log: CommitLog): void {
    const [wrong] = checkTransactions(log.commits, this.#transactions);
    hold(wrong === undefined, 60, () => `${wrong}`);
    const state = new Map<string, Entry>();
    for (const { revision, changes } of log.commits) {
      applyChanges(state, changes);
      const money = accounts.map((key) => Number(state.get(key)?.value ?? opening));
      const sum = money.reduce((one, other) => one + other, 0);
      hold(
        sum === opening * accounts.length && money.every((amount) => amount >= 0),
        61,
        () => `at revision ${revision} the accounts hold ${money.join()}`,
      );
      hold(
        onCall.some((key) => state.get(key)?.value !== 'false'),
        61,
        () => `at revision ${revision} nobody is on call`,
      );
      const taken = [...state.keys()].filter((key) => key.startsWith(seatPrefix));
      hold(
        taken.length <= seats,
        61,
        () => `at revision ${revision} ${taken.join()} are taken, of ${seats} seats`,
      );
    }
  }

  async #turn(client: ClientContext, session: RecipeSession): Promise<void> {
    switch (client.choose.below(12)) {
      case 0: {
        const { kv } = session.client;
        const { revision } = await kv.list(seatPrefix);
        await kv.compact(revision);
        return;
      }
      case 1:
      case 2:
        return this.#transact(client, session, audit, { writes: false });
      case 3:
      case 4:
        return this.#transact(client, session, changeCall);
      case 5:
      case 6:
        return this.#transact(client, session, takeSeat);
      case 7:
      case 8:
        return this.#transact(client, session, leaveSeat);
      case 9:
        // It writes whatever it reads: write skew has no place here.
        return this.#transact(client, session, transfer, { isolation: 'snapshot' });
      default:
        return this.#transact(client, session, transfer);
    }
  }

  async #transact(
    client: ClientContext,
    session: RecipeSession,
    act: Act,
    { writes = true, isolation = 'serializable' }: Kind = {},
  ): Promise<void> {
    const { choose, life, knobs } = client;
    const number = this.#transactions.length;
    const mark = writes ? `bank/done/${number}` : undefined;
    let told: Told | undefined;
    const after = this.#acknowledged.slice();
    const tell = (outcome: Transaction['outcome']) => {
      this.#transactions[number] = {
        ...{ mark, isolation, outcome, after },
        reads: told?.reads ?? [],
        writes: told?.writes ?? new Map(),
      };
    };
    tell('unknown');
    const giveUp = new AbortController();
    const patienceMs = choose.below(4) === 0 ? choose.exponential(knobs.meanPauseMs) : 60_000;
    const cancel = life.setTimer(patienceMs, () => giveUp.abort());
    try {
      await session.stm(
        async (tx) => {
          told = new Told(tx);
          await act(told, client, number);
          if (mark !== undefined) told.put(mark, number);
          tell('unknown');
        },
        { isolation, signal: giveUp.signal },
      );
      tell('ok');
      if (mark !== undefined) this.#acknowledged.push(mark);
    } catch (error) {
      if (isConclaveError(error) && error.outcome === 'not-applied') tell('fail');
      throw error;
    } finally {
      cancel();
    }
  }
}

async function transfer(told: Told, { choose, pause }: ClientContext): Promise<void> {
  const from = accounts[choose.below(accounts.length)] ?? '';
  const others = accounts.filter((account) => account !== from);
  const to = others[choose.below(others.length)] ?? '';
  const balance = (await told.get<number>(from)) ?? opening;
  await pause(1);
  const theirs = (await told.get<number>(to)) ?? opening;
  const amount = choose.below(balance + 1);
  told.put(from, balance - amount);
  told.put(to, theirs + amount);
}

/** Whoever reads all accounts sees all the money, even in a run that comes to nothing. */
async function audit(told: Told, { pause }: ClientContext): Promise<void> {
  let sum = 0;
  for (const account of accounts) {
    sum += (await told.get<number>(account)) ?? opening;
    await pause(1);
  }
  hold(sum === opening * accounts.length, 60, () => `a transaction saw ${sum} in all accounts`);
}

/** Whoever leaves looks whether the other is there; the two write different keys. */
async function changeCall(told: Told, { choose }: ClientContext): Promise<void> {
  const [me = '', other = ''] = choose.below(2) === 0 ? onCall : onCall.toReversed();
  const mine = (await told.get<boolean>(me)) ?? true;
  const theirs = (await told.get<boolean>(other)) ?? true;
  told.put(me, !mine || !theirs);
}

async function takeSeat(told: Told, { choose }: ClientContext, number: number): Promise<void> {
  const taken = await told.seats();
  const free = places.filter((place) => !taken.includes(`${seatPrefix}${place}`));
  const place = free[choose.below(free.length)];
  if (taken.length >= seats || place === undefined) return;
  told.put(`${seatPrefix}${place}`, number);
  await told.checkOwn();
}

/** The first one leaves, so that what lies behind it does not matter. */
async function leaveSeat(told: Told): Promise<void> {
  const [first] = await told.seats(1);
  if (first === undefined) return;
  told.delete(first);
  await told.checkOwn();
}
