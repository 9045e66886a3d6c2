/** What the tour claims, and what it counted to find out. */
export type Check = {
  readonly held: boolean;
  readonly claim: string;
  readonly counted: string;
};

export function check(claim: string, held: boolean, counted: string): Check {
  return { held, claim, counted };
}
