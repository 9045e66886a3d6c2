/**
 * A session whose client sees only what is under a prefix. What is built over it has a keyspace of
 * its own: a queue that serves a topic can never meet a queue of the same name.
 */
import type { Session } from '../../sdk/session.ts';

export function scopedSession(session: Session, prefix: string): Session {
  const client = session.client.namespace(prefix);
  return new Proxy(Object.create(session), {
    get(_target, property) {
      if (property === 'client') return client;
      // Sessions have private fields: what is called or computed runs on the session itself.
      const value: unknown = Reflect.get(session, property, session);
      return typeof value === 'function' ? value.bind(session) : value;
    },
  });
}
