/**
 * What is wrong with a transaction as it came, found in etcd's order: clients match on the first
 * finding. Conversion to plain types comes after, and cannot express an operation without content.
 */
import { Fault, type FaultCode } from '../faults.ts';
import { validatePut } from '../mvcc/validate.ts';
import type { RequestOp, TxnRequest } from '../wire/etcdserverpb/rpc.ts';
import { putRequest } from './convert.ts';

/** Throws a `Fault`. `maxOperations` is what the transactions around this one have left over. */
export function checkTxn(message: TxnRequest, maxOperations: number): void {
  const { compare, success, failure } = message;
  const longest = Math.max(compare.length, success.length, failure.length);
  refuseIf(longest > maxOperations, 'too-many-operations');
  for (const { key } of compare) refuseIf(key.length === 0, 'empty-key');
  for (const operation of success) checkOperation(operation, maxOperations - longest);
  for (const operation of failure) checkOperation(operation, maxOperations - longest);
}

function checkOperation({ request }: RequestOp, maxOperations: number): void {
  switch (request?.$case) {
    case 'requestRange':
    case 'requestDeleteRange':
      refuseIf(request.value.key.length === 0, 'empty-key');
      return;
    case 'requestPut': {
      const fault = validatePut(putRequest(request.value));
      if (fault !== undefined) throw new Fault(fault);
      return;
    }
    case 'requestTxn':
      checkTxn(request.value, maxOperations);
      return;
    case undefined:
      throw new Fault('key-not-found');
  }
}

function refuseIf(condition: boolean, code: FaultCode): void {
  if (condition) throw new Fault(code);
}
