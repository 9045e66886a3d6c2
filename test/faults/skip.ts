import { Skip } from '../slow/suite.ts';
import { type Facility, packages } from './facilities.ts';

/** Says what is missing and how to get it. The runner counts it as a failure in CI. */
export function facilitySkip(facility: Facility, why: string): Skip {
  return new Skip(`${facility}: ${why} (needs root and apt-get install ${packages})`);
}
