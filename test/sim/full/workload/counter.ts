/** Counters of both kinds: each addition is in the sum once, whoever made it how often. */
import { adderPrefix, counterPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import type { Counter } from '../../../../recipes/values/counter.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import type { Outcome } from '../../../lin/history.ts';
import { additionOf, checkSeenSum, checkSum } from '../../../lin/recipes-values.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import { type ClientContext, finalEntries, type Workload } from './workload.ts';

type Known = Outcome<unknown>['kind'];

/** What is known of the additions to one counter. */
class Account {
  readonly outcomes: Known[] = [];
  /** Additions that anybody may repeat under their name. */
  readonly #named: number[] = [];
  /** The sum of those that were answered. */
  answered = 0n;

  begin(): number {
    // Until it is answered, or if it never is, it may have taken effect.
    return this.outcomes.push('unknown') - 1;
  }

  /** One that was begun under its name, by whomever, or another. */
  beginNamed({ choose }: ClientContext): number {
    const known = this.#named[choose.below(2 * this.#named.length + 1)];
    if (known !== undefined) return known;
    const number = this.begin();
    this.#named.push(number);
    return number;
  }

  succeeded(number: number): void {
    if (this.outcomes[number] === 'ok') return;
    this.outcomes[number] = 'ok';
    this.answered += additionOf(number);
  }
}

const shards = 3;

export class CounterWorkload implements Workload {
  readonly #counter = new Account();
  readonly #adder = new Account();

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      // Made once: it knows the value, and need not be refused before it adds.
      const counter = session.counter('hits');
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#turn(client, session, counter).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
  }

  check(log: CommitLog): void {
    const final = finalEntries(log);
    for (const [prefix, { outcomes }] of [
      [counterPrefix('hits'), this.#counter],
      [adderPrefix('bytes'), this.#adder],
    ] as const) {
      let sum = 0n;
      for (const [key, { value }] of final) {
        if (key.startsWith(`${prefix}sum/`)) sum += BigInt(value);
      }
      const wrong = checkSum(sum, outcomes);
      hold(wrong === undefined, 29, () => `${prefix}: ${wrong}`);
    }
  }

  async #turn(client: ClientContext, session: RecipeSession, counter: Counter): Promise<void> {
    switch (client.choose.below(7)) {
      case 0: {
        const before = this.#counter.answered;
        this.#saw(await counter.get(), before);
        return;
      }
      case 1: {
        const before = this.#adder.answered;
        this.#saw(await session.adder('bytes', { shards }).sum(), before);
        return;
      }
      case 2: {
        const adder = session.adder('bytes', { shards });
        await this.#add(client, this.#adder, (delta, signal) => adder.add(delta, { signal }));
        return;
      }
      case 3: {
        const number = this.#counter.beginNamed(client);
        // The sum is of when it counted, which may be long ago.
        const sum = await counter.add(additionOf(number), { opId: `addition ${number}` });
        this.#saw(sum, additionOf(number));
        this.#counter.succeeded(number);
        return;
      }
      case 4: {
        // Whoever repeats it may come upon another shard.
        const number = this.#adder.beginNamed(client);
        const adder = session.adder('bytes', { shards });
        await adder.add(additionOf(number), { opId: `addition ${number}` });
        this.#adder.succeeded(number);
        return;
      }
      default:
        await this.#add(client, this.#counter, async (delta, signal) => {
          const before = this.#counter.answered;
          this.#saw(await counter.add(delta, { signal }), before);
        });
    }
  }

  async #add(
    { choose, life, knobs }: ClientContext,
    account: Account,
    add: (delta: bigint, signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const number = account.begin();
    const giveUp = new AbortController();
    const patienceMs = choose.below(3) === 0 ? choose.exponential(knobs.meanPauseMs) : 60_000;
    const cancel = life.setTimer(patienceMs, () => giveUp.abort());
    try {
      await add(additionOf(number), giveUp.signal);
      account.succeeded(number);
    } catch (error) {
      if (isConclaveError(error) && error.outcome === 'not-applied') {
        account.outcomes[number] = 'fail';
      }
      throw error;
    } finally {
      cancel();
    }
  }

  #saw(sum: bigint, before: bigint): void {
    const wrong = checkSeenSum(sum, before);
    hold(wrong === undefined, 29, () => `${wrong}`);
  }
}
