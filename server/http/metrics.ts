/** Metrics as the HTTP port needs them, whatever exporter stands behind. */
import { isRead, type MountPoint } from './router.ts';

export interface Metrics {
  readonly contentType: string;
  /** The exposition of everything, as of now. */
  expose(): Promise<string>;
  healthChecked(type: string, name: string, passed: boolean): void;
}

export function mountMetrics(at: MountPoint, metrics: Metrics): void {
  at.mount('/metrics', async (request, response) => {
    if (!isRead(request, response)) return;
    const text = await metrics.expose();
    response.writeHead(200, { 'Content-Type': metrics.contentType }).end(text);
  });
}
