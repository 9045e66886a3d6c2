/** What guards rest on: conditions that hold now, not some time ago on the member that was asked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, compare, connect } from '../../sdk/index.ts';
import { storeMissing, useStore } from '../support/store.ts';

describe.skipIf(storeMissing)('guards', () => {
  const { store } = useStore();
  let members: readonly Client[] = [];
  beforeAll(async () => {
    members = await Promise.all(store().endpoints.map((endpoint) => connect(endpoint)));
  });
  afterAll(() => Promise.all(members.map((member) => member.close())));

  test('conditions alone are checked against the newest state, whichever member is asked', async () => {
    const rounds = members.flatMap((member) => Array.from({ length: 50 }, () => member));
    for (const [round, { kv }] of rounds.entries()) {
      const key = `guard-${round}`;
      const { revision } = await kv.put(key, '');
      await kv.delete(key);
      const guarded = members.map(({ kv }) =>
        kv
          .txn()
          .if(compare.modRevision(key, '==', revision))
          .commit(),
      );
      for (const result of await Promise.all(guarded)) {
        expect(result).toMatchObject({ succeeded: false, responses: [] });
      }
    }
  });
});
