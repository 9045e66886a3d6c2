/** What stands under a prefix, as a state that is kept current for as long as anybody listens. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { viewPrefix } from './prefix-view.ts';
import { observeShared } from './streams.ts';
import type { View } from './view.ts';

/** @param show makes the state of the entries; asked anew after each change */
export const observePrefix = <State>(
  client: Client,
  prefix: string,
  show: (entries: Iterable<KeyValue>) => State,
): View<State> =>
  observeShared(async function* (signal) {
    for await (const { entries } of viewPrefix(client, prefix, { signal })) {
      yield show(entries.values());
    }
  });
