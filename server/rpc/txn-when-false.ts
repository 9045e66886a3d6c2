/**
 * A read that waits: a transaction is answered once one of its conditions does not hold, with what its
 * `failure` operations show then. A waiter of a line asks when its predecessor is gone, and hears in
 * one answer both that it is and who is ahead now.
 *
 * That a condition does not hold is first looked for behind a read barrier, so the member knows at
 * least what the client knew when it asked. From then on the member's own state is enough: it only
 * gets newer.
 */
import { Fault, Status } from '../faults.ts';
import type { TxnRequest as PlainTxnRequest, TxnResult } from '../mvcc/types.ts';
import { BatchDefinition } from '../wire/conclave/v1/batch.ts';
import { TxnRequest, TxnResponse } from '../wire/etcdserverpb/rpc.ts';
import { checkTxn } from './check-txn.ts';
import * as convert from './convert.ts';
import { headerAt } from './header.ts';
import type { Caller, Member } from './member.ts';
import { methodsOf, type UnaryMethod } from './method.ts';
import type { ServiceContext } from './services.ts';
import { Rejection } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';

/** Served on the batched stream only. */
export function txnWhenFalse(
  { member, maxTxnOps }: ServiceContext,
  streams: OpenStreams,
): UnaryMethod {
  return methodsOf(member, BatchDefinition)(
    { name: 'TxnWhenFalse', requestType: TxnRequest, responseType: TxnResponse },
    (message, call) => {
      checkTxn(message, maxTxnOps);
      checkWait(message);
      return untilFalse(member, streams, convert.txnRequest(message), call).then((result) =>
        convert.txnResponse(headerAt(member, result.revision), result),
      );
    },
    { waits: true },
  );
}

function checkWait({ compare, success, failure }: TxnRequest): void {
  const problem =
    compare.length === 0
      ? 'compare must have a condition'
      : compare.some(({ rangeEnd }) => rangeEnd.length > 0)
        ? 'compare must be on single keys, without range_end'
        : success.length > 0
          ? 'success must be empty: nothing is done while the conditions hold'
          : failure.some(({ request }) => request?.$case !== 'requestRange')
            ? 'failure must have ranges only'
            : undefined;
  if (problem === undefined) return;
  throw new Rejection(Status.INVALID_ARGUMENT, `conclave: a transaction that waits: ${problem}`);
}

/** Rejects when the client no longer waits, when the member stops, and when it has no leader for long. */
function untilFalse(
  member: Member,
  streams: OpenStreams,
  request: PlainTxnRequest,
  caller: Caller,
): Promise<TxnResult> {
  return new Promise((resolve, reject) => {
    const end = () => {
      stopListening();
      streams.delete(stream);
    };
    const fail = (error: unknown) => {
      end();
      reject(error);
    };
    // Only then the member knows what the client knew: before, its state may lack the client's own key.
    let isCurrent = false;
    let isLooking = false;
    /** Something changed during a look, which may have been a long one. */
    let mustLookAgain = false;
    const look = () => {
      if (!isCurrent) return;
      mustLookAgain = isLooking;
      if (isLooking) return;
      isLooking = true;
      member.readTxn(request, { serializable: true, caller }).then((result) => {
        isLooking = false;
        if (!result.succeeded) {
          end();
          resolve(result);
        } else if (mustLookAgain) look();
      }, fail);
    };
    const stream: OpenStream = { needsLeader: true, fail };
    const keys = request.compare.map(({ key }) => key);
    const stopListening = member.hub.nextChange.listen(keys, look);
    streams.add(stream);
    const { signal } = caller;
    signal.addEventListener('abort', () => fail(new Fault('canceled')), { once: true });
    member.linearize(signal).then(() => {
      isCurrent = true;
      look();
    }, fail);
  });
}
