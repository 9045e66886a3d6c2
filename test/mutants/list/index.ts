/** Every mutant, by number. */
import type { Mutant } from '../mutant.ts';
import { barrierMutants } from './barriers.ts';
import { discoveryMutants } from './discovery.ts';
import { electionMutants } from './election.ts';
import { groupMutants } from './group.ts';
import { leaseMutants } from './lease.ts';
import { lockMutants } from './locks.ts';
import { memberMutants } from './members.ts';
import { mvccMutants } from './mvcc.ts';
import { queueMutants } from './queue.ts';
import { raftMutants } from './raft.ts';
import { replicaMutants } from './replica.ts';
import { sdkMutants } from './sdk.ts';
import { sessionMutants } from './session.ts';
import { stmMutants } from './stm.ts';
import { storageMutants } from './storage.ts';
import { topicMutants } from './topic.ts';
import { watchMutants } from './watch.ts';

export const mutants: readonly Mutant[] = [
  ...raftMutants,
  ...storageMutants,
  ...memberMutants,
  ...mvccMutants,
  ...electionMutants,
  ...leaseMutants,
  ...watchMutants,
  ...replicaMutants,
  ...sdkMutants,
  ...lockMutants,
  ...queueMutants,
  ...sessionMutants,
  ...groupMutants,
  ...stmMutants,
  ...discoveryMutants,
  ...topicMutants,
  ...barrierMutants,
].sort((a, b) => a.number - b.number);

const numbers = mutants.map(({ number }) => number);
const twice = numbers.find((number, index) => numbers.indexOf(number) !== index);
if (twice !== undefined) throw new Error(`two mutants have the number ${twice}`);
