import { describe, expect, test } from 'vitest';
import {
  CustomLine,
  type CustomLineOptions,
  type LineRule,
} from '../../recipes/locks/custom-line.ts';
import { linePrefix } from '../../recipes/names.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

/** The same rack shares; another one waits. */
const sameRack: LineRule = (me, ahead) => ahead.findLast(({ meta }) => meta['rack'] !== me['rack']);

describe.skipIf(storeMissing)('line with a rule of its own', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: Partial<CustomLineOptions> = {}) =>
    new CustomLine(actor.context, name, { policy: sameRack, ...options });
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => {
      const count = await world.operator().kv.count({ prefix: linePrefix(name) });
      return count === BigInt(length);
    });
  const pending = async (promise: Promise<unknown>) => {
    await settle();
    expect(await Promise.race([promise, Promise.resolve('waiting')])).toBe('waiting');
  };

  test('the same rack shares, another waits, and nobody overtakes', async () => {
    const [a, b] = [
      await world.actor({ meta: { rack: '1' } }),
      await world.actor({ meta: { rack: '2' } }),
    ];
    const name = world.name();
    const first = await of(a, name).acquire();
    const second = await of(b, name).acquire({ meta: { rack: '1' } });
    expect(await of(b, name).tryAcquire()).toBeNull();
    const other = of(b, name).acquire();
    await lineLength(name, 3);
    // The nearest ahead is of its rack, and waits itself for one that is not.
    const another = of(b, name).acquire();
    await lineLength(name, 4);
    const behind = of(a, name).acquire();
    await lineLength(name, 5);
    await first.release();
    await pending(other);
    await pending(another);
    await second.release();
    const [held, beside] = await Promise.all([other, another]);
    await pending(behind);
    expect(await of(a, name).inspect()).toMatchObject([
      { key: held.key, meta: { rack: '2' } },
      { key: beside.key, meta: { rack: '2' } },
      { meta: { rack: '1' } },
    ]);
    await held.release();
    await pending(behind);
    await beside.release();
    await (await behind).release();
  });

  test('tryAcquire joins those it gets on with in two exchanges', async () => {
    const actor = await world.actor({ meta: { rack: '1' } });
    const name = world.name();
    await using _first = await of(actor, name).acquire();
    actor.faults.take();
    await using second = await of(actor, name).tryAcquire();
    expect(second?.isHeld).toBe(true);
    expect(actor.faults.take().map(({ kind }) => kind)).toEqual(['txn', 'txn']);
  });

  test('rules of different names do not stand in one line', async () => {
    const actor = await world.actor({ meta: { rack: '1' } });
    const name = world.name();
    await using _held = await of(actor, name, { rule: 'rack' }).acquire();
    const mismatch = { code: 'MISMATCH', message: expect.stringMatching(/'rack'.*'zone'/) };
    await expect(of(actor, name, { rule: 'zone' }).acquire()).rejects.toMatchObject(mismatch);
    await expect(of(actor, name, { rule: 'zone' }).tryAcquire()).rejects.toMatchObject(mismatch);
    await lineLength(name, 1);
  });

  test('a rule that is none, throws or names a stranger is told', async () => {
    const actor = await world.actor();
    const name = world.name();
    expect(() => of(actor, name, { policy: 'fifo' as never })).toThrow(/'policy'/);
    await using _held = await of(actor, name).acquire();
    const stranger: LineRule = () => ({ key: 'x', createRevision: 1n, meta: {} });
    await expect(of(actor, name, { policy: stranger }).acquire()).rejects.toThrow(/'policy'/);
    const broken: LineRule = () => {
      throw new Error('broken rule');
    };
    await expect(of(actor, name, { policy: broken }).acquire()).rejects.toThrow('broken rule');
    await lineLength(name, 1);
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new CustomLine(actor.context, 'x', options as never);
    const policy = () => undefined;
    expect(make(undefined)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ policy, rul: 'x' })).toThrow(expect.objectContaining(refused("'rule'")));
    expect(make({ policy, rule: 1 })).toThrow(expect.objectContaining(refused("'rule'")));
    expect(make({ rule: 'x' })).toThrow(expect.objectContaining(refused("'policy'")));
    const line = of(actor, world.name());
    const acquired = line.acquire({ tmieout: 10 } as never);
    await expect(acquired).rejects.toMatchObject(refused("'timeout'"));
    const tried = line.tryAcquire({ timeout: 10 } as never);
    await expect(tried).rejects.toMatchObject(refused("'timeout'"));
  });
});
