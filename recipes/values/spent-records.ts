/** Op-records that nothing needs any more; a later write of the same session takes them along. */
import type { RecipeContext } from '../common/context.ts';

/** Op-records removed with one write, at most. */
export const spentAtOnce = 16;

/** By session and prefix: recipes are made anew for each use, what they leave behind must not add up. */
const leftBehind = new WeakMap<RecipeContext, Map<string, string[]>>();

/** The keys left behind under this root, to take from and to add to. */
export function spentRecords(context: RecipeContext, root: string): string[] {
  const lists = leftBehind.get(context) ?? new Map<string, string[]>();
  leftBehind.set(context, lists);
  const keys = lists.get(root) ?? [];
  lists.set(root, keys);
  return keys;
}
