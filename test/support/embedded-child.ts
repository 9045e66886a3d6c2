/**
 * A process that opens the store of a directory and does what its parent asks, one line of JSON each
 * way: `put key value`, `get key`, `session`, `close`.
 */
import { createInterface } from 'node:readline';
import { connect } from '../../sdk/index.ts';

const [directory = ''] = process.argv.slice(2);
const client = await connect({ directory, retry: { minDelay: 5, maxDelay: 100 } });
const say = (answer: unknown) => process.stdout.write(`${JSON.stringify(answer)}\n`);
say('open');
for await (const line of createInterface({ input: process.stdin })) {
  const [verb, key = '', value = ''] = line.split(' ');
  if (verb === 'put') say(String((await client.kv.put(key, value)).revision));
  else if (verb === 'get') say(await client.kv.getString(key));
  else if (verb === 'session') say((await client.session({ ttl: '10s' })).id);
  else break;
}
await client.close();
process.stdin.destroy();
say('closed');
