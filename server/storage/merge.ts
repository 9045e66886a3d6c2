/** Merging of sorted sources, where for one key the first source that has it counts. */

export type Row<Value> = readonly [key: string, value: Value];

/** Each source is in order, ascending or, with `reverse`, descending, without duplicates. */
export function* merge<Value>(
  sources: readonly Iterator<Row<Value>>[],
  reverse: boolean,
): Generator<Row<Value>, void> {
  const heads = sources.map((source) => ({ source, row: nextOf(source) }));
  try {
    for (;;) {
      let best: Row<Value> | undefined;
      for (const { row } of heads) {
        if (row === undefined) continue;
        if (best === undefined || (reverse ? row[0] > best[0] : row[0] < best[0])) best = row;
      }
      if (best === undefined) return;
      for (const head of heads) {
        if (head.row?.[0] === best[0]) head.row = nextOf(head.source);
      }
      yield best;
    }
  } finally {
    for (const { source } of heads) source.return?.();
  }
}

function nextOf<Value>(source: Iterator<Row<Value>>): Row<Value> | undefined {
  const result = source.next();
  return result.done === true ? undefined : result.value;
}
