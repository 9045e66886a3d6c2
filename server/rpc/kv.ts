/** The KV service: reads through a read barrier, writes through the log. */
import { Fault, type FaultCode } from '../faults.ts';
import type { Message } from '../http2/message.ts';
import type { PutResult, RangeResult, TxnResult } from '../mvcc/types.ts';
import { validateDeleteRange, validatePut, validateRange, validateTxn } from '../mvcc/validate.ts';
import { KVDefinition, type RequestOp, type TxnRequest } from '../wire/etcdserverpb/rpc.ts';
import { putCost, txnCost } from './admission.ts';
import { checkTxn } from './check-txn.ts';
import * as convert from './convert.ts';
import { headerAt } from './header.ts';
import { asEncoded, methodsOf } from './method.ts';
import { RangePairs } from './range-pairs.ts';
import type { ServiceContext } from './services.ts';

export function kvMethods({ member, writes, maxTxnOps }: ServiceContext) {
  const method = methodsOf(member, KVDefinition);
  const { methods } = KVDefinition;

  const answerOfOne = (result: RangeResult): Message => {
    const header = headerAt(member, result.revision);
    return methods.range.responseType.encode(convert.rangeResponse(header, result)).finish();
  };
  const range = method(
    { ...methods.range, responseType: asEncoded },
    (message, caller) => {
      const request = convert.rangeRequest(message);
      refuse(validateRange(request));
      const { serializable } = message;
      if (request.rangeEnd.length === 0) {
        return member.range(request, { serializable, caller }).then(answerOfOne);
      }
      let pairs = new RangePairs();
      const sink = () => {
        pairs = new RangePairs();
        return pairs;
      };
      return member
        .range(request, { serializable, caller, sink })
        .then((result) => pairs.answer(headerAt(member, result.revision), result));
    },
    {
      onLearner: (message) => message.serializable,
      answersAtLength: ({ rangeEnd }) => rangeEnd.length > 0,
    },
  );

  const putAnswer = (result: PutResult) =>
    convert.putResponse(headerAt(member, result.revision), result);
  const put = method(methods.put, (message, call) => {
    const request = convert.putRequest(message);
    refuse(validatePut(request));
    return writes.propose(request, call, putCost(request)).then(putAnswer);
  });

  const deleteRange = method(
    methods.deleteRange,
    async (message, call) => {
      const request = convert.deleteRangeRequest(message);
      refuse(validateDeleteRange(request));
      const result = await writes.propose(request, call);
      return convert.deleteRangeResponse(headerAt(member, result.revision), result);
    },
    { answersAtLength: ({ rangeEnd, prevKv }) => prevKv && rangeEnd.length > 0 },
  );

  const txnAnswer = (result: TxnResult) =>
    convert.txnResponse(headerAt(member, result.revision), result);
  const txn = method(
    methods.txn,
    (message, call) => {
      checkTxn(message, maxTxnOps);
      const request = convert.txnRequest(message);
      refuse(validateTxn(request, maxTxnOps));
      const access = accessOf(message);
      if (access !== 'write') {
        const serializable = access === 'serializable';
        return member.readTxn(request, { serializable, caller: call }).then(txnAnswer);
      }
      return writes.propose(request, call, txnCost(request)).then(txnAnswer);
    },
    { answersAtLength: () => true },
  );

  const compact = method(methods.compact, async (message, call) => {
    const revision = convert.toNumber(message.revision);
    const { physical } = message;
    const result = await writes.propose({ kind: 'compact', revision, physical }, call);
    return { header: headerAt(member, result.revision) };
  });

  return { range, put, deleteRange, txn, compact };
}

function refuse(fault: FaultCode | undefined): void {
  if (fault !== undefined) throw new Fault(fault);
}

/**
 * How a transaction has to be run: one with only reads needs no log entry, and no read barrier either
 * if all of them are serializable. As in etcd a nested transaction counts as a write. Unlike in etcd,
 * one of conditions alone is linearizable: nobody has asked for an old answer.
 */
function accessOf({ success, failure }: TxnRequest): 'write' | 'read' | 'serializable' {
  const operations: readonly RequestOp[] = [...success, ...failure];
  let access: 'read' | 'serializable' = operations.length === 0 ? 'read' : 'serializable';
  for (const { request } of operations) {
    if (request?.$case !== 'requestRange') return 'write';
    if (!request.value.serializable) access = 'read';
  }
  return access;
}
