/**
 * Whether the member at the other end still turns. A process that is stopped, or a host that is gone,
 * keeps its connections open and answers nothing; calls would wait for it until their time is over.
 * While somebody waits for something, a ping that is not answered in time says so much earlier.
 */
import type { Cancel, Clock } from './clock.ts';
import type { Link } from './link.ts';
import { TransportFailure } from './transport.ts';

/** A member is found silent no later than the sum of these after a call was made. */
const pulseEveryMs = 500;
const pulsePatienceMs = 1_500;

export type PulseOptions = {
  readonly clock: Clock;
  readonly onSilence: (failure: TransportFailure) => void;
};

/** Watches over the link until it closes. Returns the way to stop earlier. */
export const watchPulse = (link: Link, { clock, onSilence }: PulseOptions): Cancel => {
  let cancelTimer: Cancel = () => {};
  let stopped = false;
  const beat = async () => {
    if (stopped || link.closed) return;
    const { answers } = link;
    try {
      if (link.busy) await link.unary('ping', {}, { timeoutMs: pulsePatienceMs, movable: true });
    } catch (failure) {
      if (stopped || link.closed || !(failure instanceof TransportFailure)) return;
      // Without batches there is no ping: the keep-alive of the connection has to do.
      if (failure.kind === 'unnumbered') return;
      // Behind large requests or answers a ping may be late; what came meanwhile says as much.
      if (failure.kind === 'timeout' && link.answers === answers) {
        onSilence(failure);
        return;
      }
      // Any other failure is an answer.
    }
    arm();
  };
  const arm = () => {
    cancelTimer = clock.setTimer(pulseEveryMs, () => void beat());
  };
  arm();
  return () => {
    stopped = true;
    cancelTimer();
  };
};
