/** Jobs that survive their workers: retried with back-off, and set aside when they are hopeless. */

import { connect, exponential, json } from 'conclave';
import { filter, firstValueFrom } from 'rxjs';

type Mail = { readonly to: string };

await using conclave = await connect({ directory: process.env['CONCLAVE_EXAMPLE'] ?? '.conclave' });
await using session = await conclave.session({ ttl: '15s' });
const mails = session.queue<Mail>('examples/mail', { codec: json<Mail>() });

await mails.push({ to: 'ada@example.com' });
await mails.push({ to: 'not an address' }, { maxAttempts: 2 });
const again = await mails.push({ to: 'bob@example.com' }, { key: 'welcome-bob', delay: '100ms' });
const twice = await mails.push({ to: 'bob@example.com' }, { key: 'welcome-bob' });
console.log(`the same key is one job: ${twice.duplicate && twice.id === again.id}`);

const worker = session.worker<Mail, string>(
  'examples/mail',
  async (job) => {
    if (!job.data.to.includes('@')) throw new Error(`no such address: ${job.data.to}`);
    return `sent to ${job.data.to}`;
  },
  { codec: json<Mail>(), concurrency: 2, backoff: exponential({ base: '50ms' }) },
);
worker.events$.subscribe((event) => {
  if (event.type === 'done') console.log(event.result);
});
await firstValueFrom(worker.events$.pipe(filter((event) => event.type === 'dead')));
await worker.close();

for (const letter of await mails.dead.list()) {
  console.log(`dead after ${letter.attempts} attempts: ${letter.reason}`);
}
console.log(`discarded: ${await mails.dead.discard(() => true)}`);
