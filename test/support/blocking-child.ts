/**
 * A process that takes a lock, blocks its event loop, and says in the very next statement what it
 * believes to hold. Its argument is JSON; it says one line of JSON when it holds and one after.
 */
import { connect } from '../../recipes/connect.ts';
import type { TlsOptions } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { SessionOptions } from '../../sdk/session.ts';

export type BlockingOrder = {
  readonly endpoints: readonly string[];
  readonly tls?: TlsOptions;
  readonly name: string;
  readonly session: SessionOptions;
  readonly blockMs: number;
};

const order = JSON.parse(process.argv[2] ?? '') as BlockingOrder;
const { endpoints, tls, session: terms } = order;
const conclave = await connect({ endpoints, ...(tls === undefined ? {} : { tls }) });
const session = await conclave.session(terms);
const lock = await session.mutex(order.name).acquire();
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ token: String(lock.token), lease: session.id });
// Written at once: what is in a pipe by then need not wait for the loop to turn.
const asleep = new Int32Array(new SharedArrayBuffer(4));
Atomics.wait(asleep, 0, 0, order.blockMs);
let belief = 'held';
try {
  lock.assertHeld();
} catch (error) {
  belief = isConclaveError(error) ? error.code : String(error);
}
const remainingMs = session.validUntilMs - performance.now();
say({ belief, remainingMs: Math.round(remainingMs) });
await conclave.close();
const active = process.getActiveResourcesInfo().filter((name) => /worker|port/i.test(name));
say({ active });
