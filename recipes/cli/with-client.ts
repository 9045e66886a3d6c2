import type { Client } from '../../sdk/client.ts';
import { connect } from '../../sdk/index.ts';
import { type ConnectionOptions, connectOptions } from './connection.ts';

/** Connects, uses the connection and closes it, whatever happens. */
export async function withClient<T>(
  options: ConnectionOptions & { readonly signal?: AbortSignal },
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const { signal } = options;
  const client = await connect({ ...connectOptions(options), ...(signal && { signal }) });
  try {
    return await use(client);
  } finally {
    await client.close();
  }
}
