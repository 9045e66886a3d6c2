/**
 * Strict serializability of transactions that append to lists and read them, from the lists alone:
 * what was read shows which append came after which, and together with real time these dependencies
 * must have no cycle. After Kingsbury and Alvaro, "Elle: inferring isolation anomalies from
 * experimental observations" (2020).
 */
import { describeOperation, isAnswered, latestEffect, type Operation, print } from './history.ts';

export type AppendStep =
  /** Values are unique per key. */
  | { readonly kind: 'append'; readonly key: string; readonly value: string }
  | { readonly kind: 'read'; readonly key: string };
/** One a step: what a read found, nothing for an append. */
export type AppendResult = readonly (readonly string[] | undefined)[];
export type AppendOperation = Operation<readonly AppendStep[], AppendResult>;

type Read = { readonly operation: AppendOperation; readonly list: readonly string[] };

/** What is wrong with the history, in words; empty when no anomaly shows. */
export function checkAppends(operations: readonly AppendOperation[]): string[] {
  const violations: string[] = [];
  const writers = writersOf(operations);
  const graph = new Graph();
  const observed = new Set<AppendOperation>();
  for (const [key, reads] of readsOf(operations)) {
    const longest = reads.reduce<readonly string[]>(
      (best, { list }) => (list.length > best.length ? list : best),
      [],
    );
    if (new Set(longest).size < longest.length)
      violations.push(`duplicated append: ${key} holds ${print(longest)}`);
    const writerAt = (index: number) => writers.get(place(key, longest[index] ?? ''));
    for (const [index, value] of longest.entries()) {
      const writer = writerAt(index);
      if (writer === undefined) violations.push(`${key} holds ${value}, which nobody appended`);
      else if (writer.outcome.kind === 'fail')
        violations.push(`${key} holds ${value}, whose append was refused`);
      else observed.add(writer);
      const before = index === 0 ? undefined : writerAt(index - 1);
      if (writer !== undefined && before !== undefined) graph.edge(before, writer);
    }
    for (const { operation, list } of reads) {
      if (list.some((value, index) => value !== longest[index])) {
        violations.push(
          `no single order: ${describeOperation(operation)} does not agree with ${print(longest)}`,
        );
        continue;
      }
      const seen = list.length === 0 ? undefined : writerAt(list.length - 1);
      const unseen = list.length === longest.length ? undefined : writerAt(list.length);
      if (seen !== undefined) graph.edge(seen, operation);
      if (unseen !== undefined) graph.edge(operation, unseen);
    }
    const values = new Set(longest);
    const last = reads.filter(({ list }) => list.length === longest.length);
    for (const operation of operations)
      for (const step of operation.action)
        if (step.kind === 'append' && step.key === key && !values.has(step.value))
          if (isAnswered(operation)) for (const read of last) graph.edge(read.operation, operation);
  }
  // An append without an answer that nobody saw need not have happened.
  const happened = operations.filter((one) => isAnswered(one) || observed.has(one));
  orderInTime(happened, graph);
  for (const cycle of graph.cycles())
    violations.push(`cycle: ${cycle.map(describeOperation).join(' before ')}`);
  return violations;
}

const place = (key: string, value: string): string => JSON.stringify([key, value]);

function writersOf(operations: readonly AppendOperation[]): Map<string, AppendOperation> {
  const writers = new Map<string, AppendOperation>();
  for (const operation of operations)
    for (const step of operation.action)
      if (step.kind === 'append') writers.set(place(step.key, step.value), operation);
  return writers;
}

/** What transactions read from others: reads after an append of their own are cut before it. */
function readsOf(operations: readonly AppendOperation[]): Map<string, Read[]> {
  const reads = new Map<string, Read[]>();
  for (const operation of operations.filter(isAnswered)) {
    const own = new Map<string, number>();
    for (const [index, step] of operation.action.entries()) {
      if (step.kind === 'append') {
        own.set(step.key, (own.get(step.key) ?? 0) + 1);
        continue;
      }
      const list = operation.outcome.answer[index] ?? [];
      const foreign = list.slice(0, list.length - (own.get(step.key) ?? 0));
      const ofKey = reads.get(step.key) ?? [];
      ofKey.push({ operation, list: foreign });
      reads.set(step.key, ofKey);
    }
  }
  return reads;
}

/** Order in real time with a number of edges that is linear: through a chain of moments. */
function orderInTime(operations: readonly AppendOperation[], graph: Graph): void {
  const moments = operations
    .flatMap((operation) => [
      { operation, isReturn: false, at: operation.invoked },
      { operation, isReturn: true, at: latestEffect(operation) },
    ])
    .filter(({ at }) => at !== Number.POSITIVE_INFINITY)
    .sort((a, b) => a.at - b.at || Number(a.isReturn) - Number(b.isReturn));
  let latest: object | undefined;
  for (const { operation, isReturn } of moments) {
    if (!isReturn) {
      if (latest !== undefined) graph.edge(latest, operation);
      continue;
    }
    const moment = {};
    if (latest !== undefined) graph.edge(latest, moment);
    graph.edge(operation, moment);
    latest = moment;
  }
}

class Graph {
  readonly #edges = new Map<object, Set<object>>();
  readonly #operations = new Set<object>();

  edge(from: object, to: object): void {
    if (from === to) return;
    const targets = this.#edges.get(from) ?? new Set();
    targets.add(to);
    this.#edges.set(from, targets);
    for (const node of [from, to]) if ('action' in node) this.#operations.add(node);
  }

  /** The operations of every strongly connected component; iterative, after Tarjan (1972). */
  *cycles(): Generator<AppendOperation[]> {
    const indexOf = new Map<object, number>();
    const low = new Map<object, number>();
    const stack: object[] = [];
    const onStack = new Set<object>();
    for (const root of this.#edges.keys()) {
      if (indexOf.has(root)) continue;
      const work = [{ node: root, targets: this.#visit(root, indexOf, low, stack, onStack) }];
      for (let frame = work.at(-1); frame !== undefined; frame = work.at(-1)) {
        const { node, targets } = frame;
        const { value: target, done } = targets.next();
        if (done !== true) {
          if (!indexOf.has(target))
            work.push({
              node: target,
              targets: this.#visit(target, indexOf, low, stack, onStack),
            });
          else if (onStack.has(target)) lower(low, node, indexOf.get(target) ?? 0);
          continue;
        }
        work.pop();
        const parent = work.at(-1)?.node;
        if (parent !== undefined) lower(low, parent, low.get(node) ?? 0);
        if (low.get(node) !== indexOf.get(node)) continue;
        const component = stack.splice(stack.lastIndexOf(node));
        for (const member of component) onStack.delete(member);
        const cycle = component.filter((member) => this.#operations.has(member));
        if (component.length > 1) yield cycle as AppendOperation[];
      }
    }
  }

  #visit(
    node: object,
    indexOf: Map<object, number>,
    low: Map<object, number>,
    stack: object[],
    onStack: Set<object>,
  ): Iterator<object> {
    low.set(node, indexOf.size);
    indexOf.set(node, indexOf.size);
    stack.push(node);
    onStack.add(node);
    return (this.#edges.get(node) ?? new Set()).values();
  }
}

function lower(low: Map<object, number>, node: object, to: number): void {
  low.set(node, Math.min(low.get(node) ?? to, to));
}
