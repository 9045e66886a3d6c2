/** Metrics as the HTTP port needs them, whatever exporter stands behind. */
import { isRead, type MountPoint } from './router.ts';

export type Exposed = { readonly contentType: string; readonly text: string };

export interface Metrics {
  /** The exposition of everything, as of now. */
  expose(): Promise<Exposed>;
  healthChecked(type: string, name: string, passed: boolean): void;
}

export function mountMetrics(at: MountPoint, metrics: Metrics): void {
  at.mount('/metrics', async (request, response) => {
    if (!isRead(request, response)) return;
    const { contentType, text } = await metrics.expose();
    response.writeHead(200, { 'Content-Type': contentType }).end(text);
  });
}
