/** How long sessions lived, and which were lost. */
import { isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import type { RecipeMetrics } from '../metrics.ts';
import { measureHold } from './measured-hold.ts';
import { onAbort } from './signals.ts';

/** Reports the end of the session, with an empty name: sessions have none. */
export function measureSession(session: Session, metrics: RecipeMetrics): void {
  const { clock } = session.client;
  const measured = { recipe: 'session', name: '' } as const;
  const ended = measureHold(metrics, clock, measured);
  onAbort(session.signal, () => {
    const { reason } = session.signal;
    if (isConclaveError(reason, 'SESSION_LOST')) {
      metrics.lost({ ...measured, reason: reason.code });
    }
    ended();
  });
}
