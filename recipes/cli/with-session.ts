import type { Client } from '../../sdk/client.ts';
import type { Session, SessionOptions } from '../../sdk/session.ts';
import type { Background, RecipeContext } from '../common/context.ts';
import { noMetrics } from '../metrics.ts';
import type { ConnectionOptions } from './connection.ts';
import { withClient } from './with-client.ts';

/** A session as the recipes want it, for one process that runs one verb. */
export const recipeContext = (session: Session): RecipeContext => ({
  session,
  metrics: noMetrics,
  background: new Set<Background>(),
});

/** Ends what the recipes left running, then the session. */
export async function closeContext({ session, background }: RecipeContext): Promise<void> {
  await Promise.all([...background].map((part) => part.close()));
  await session.close();
}

/** Opens a session for a verb and closes it, whatever happens. */
export const withSession = <T>(
  options: ConnectionOptions,
  use: (context: RecipeContext, client: Client) => Promise<T>,
  settings: SessionOptions = {},
): Promise<T> =>
  withClient(options, async (client) => {
    const context = recipeContext(await client.session(settings));
    try {
      return await use(context, client);
    } finally {
      await closeContext(context);
    }
  });
