/** Shipped code logs; a simulation tells what matters in its own words. */
import { pino } from 'pino';

export const silentLogger = pino({ level: 'silent' });
