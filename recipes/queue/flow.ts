/** A job and its children, as they are pushed together. */

import { type Codec, json } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { checkOptions } from '../common/option-checks.ts';
import { queueKeys } from '../names.ts';
import { checkCodec, checkList } from './checks.ts';
import type { ChildFailurePolicy } from './job-record.ts';
import type { NewJob } from './producer.ts';
import { type JobOptions, knownJob, newJob } from './push-options.ts';

export type FlowNode<T> = Omit<JobOptions, 'key' | 'keyFor'> & {
  readonly data: T;
  /** Jobs that are to be finished before this one is offered. */
  readonly children?: readonly FlowChild[];
  /**
   * When a child becomes a dead letter or is cancelled: become one as well ('fail'), go on without it
   * ('continue'), or wait until it is replayed and done ('wait'; for one that is cancelled or
   * discarded, which never will be, as 'fail'). @default 'fail'
   */
  readonly onChildFailure?: ChildFailurePolicy;
};

export type FlowChild = FlowNode<unknown> & {
  /** The queue it goes to, whose capacity is not looked at. @default that of the whole flow */
  readonly queue?: string;
  /** How its payload is written. @default JSON */
  readonly codec?: Codec<unknown>;
};

/** The ids of a flow, in its shape. */
export type FlowIds = { readonly id: string; readonly children: readonly FlowIds[] };

const { key: _key, keyFor: _keyFor, ...knownJobOfFlow } = knownJob;
const knownNode = { ...knownJobOfFlow, data: true, children: true, onChildFailure: true } as const;
const knownChild = { ...knownNode, queue: true, codec: true } as const;

const policies: readonly ChildFailurePolicy[] = ['fail', 'continue', 'wait'];

/** Every node as a job, parents before their children. @throws ConclaveError INVALID_ARGUMENT, CODEC */
export function flowJobs<T>(root: FlowNode<T>, codec: Codec<T>, nowMs: number): NewJob[] {
  const jobs: NewJob[] = [];
  const add = (
    node: FlowNode<unknown>,
    nodeCodec: Codec<unknown>,
    queue: string | undefined,
    parent: NewJob['parent'],
  ): void => {
    const { key } = Object(node) as JobOptions;
    if (key !== undefined) {
      throw invalidArgument('key', key, 'absent in a flow: all of its jobs are pushed, or none');
    }
    if (parent === undefined) checkOptions<FlowNode<unknown>>(node, knownNode, 'flow');
    else checkOptions<FlowChild>(node, knownChild, 'children');
    checkCodec(nodeCodec);
    const { children = [], onChildFailure = 'fail' } = node;
    checkList(children, 'children', 'jobs');
    if (!policies.includes(onChildFailure)) {
      throw invalidArgument('onChildFailure', onChildFailure, "'fail', 'continue' or 'wait'");
    }
    if (children.length > 0 && node.delay !== undefined) {
      throw invalidArgument('delay', node.delay, 'absent for a job that waits for children');
    }
    const job = newJob(node.data, nodeCodec, node, nowMs);
    const index = jobs.length;
    jobs.push({
      ...job,
      state: children.length === 0 ? job.state : { ...job.state, isParent: true },
      ...(queue === undefined ? {} : { keys: queueKeys(queue) }),
      ...(parent === undefined ? {} : { parent }),
    });
    for (const child of children) {
      const { queue: below = queue, codec: childCodec = json<unknown>() } = Object(
        child,
      ) as FlowChild;
      add(child, childCodec, below, { index, onFailure: onChildFailure });
    }
  };
  add(root, codec as Codec<unknown>, undefined, undefined);
  return jobs;
}

/** The ids in the shape of the flow. */
export function flowIds(root: FlowNode<unknown>, ids: readonly string[]): FlowIds {
  let next = 0;
  const shape = ({ children = [] }: FlowNode<unknown>): FlowIds => {
    const id = ids[next] ?? '';
    next += 1;
    return { id, children: children.map(shape) };
  };
  return shape(root);
}
