/** Defects of leases over several members. */
import type { Killer, Mutant } from '../mutant.ts';
import { test } from './killers.ts';

const leases = (name: string): Killer => test('replica/leases', name);

const lease = (
  number: number,
  name: string,
  file: string,
  find: string,
  replace: string,
  ...killers: readonly Killer[]
): Mutant => ({ number, name, patches: [{ file: `server/${file}`, find, replace }], killers });

export const leaseMutants: readonly Mutant[] = [
  lease(
    47,
    'an end proposed by a leader of the past takes effect',
    'machine.ts',
    'if (at.term !== command.term || !this.leases.has(command.id)) {',
    'if (!this.leases.has(command.id)) {',
    leases('proposed in an earlier term'),
  ),
  lease(
    48,
    'a follower ends leases by its own clock',
    'replica.ts',
    '  #expireLeases(nowMs: number): void {\n    if (!this.isServingLeader) return;',
    '  #expireLeases(nowMs: number): void {',
    leases('a follower ends no lease'),
  ),
  lease(
    49,
    'a new leader does not extend leases',
    'replica.ts',
    'this.machine.leases.extendAll(nowMs, this.#options.electionTimeoutMs);',
    '',
    leases('a new leader gives every lease its full time'),
  ),
  lease(
    50,
    'a deposed leader renews leases',
    'local-member.ts',
    'this.#proof = this.linearize().then(',
    'this.#proof = Promise.resolve().then(',
    test('node/deposed-leader', 'a deposed leader renews no lease'),
  ),
  lease(
    51,
    'a key attached to another lease is still deleted with the old one',
    'mvcc/store.ts',
    'if (leaseBefore !== NO_LEASE) draft.remove(attachmentKey(leaseBefore, key));',
    '',
    test('machine/lease', 'a put attaches the key anew'),
  ),
  lease(
    52,
    'a lease ends without an entry',
    'replica.ts',
    '    const expired = this.machine.leases.expired(nowMs, EXPIRE_PER_TICK);',
    '    const expired = this.machine.leases.expired(nowMs, EXPIRE_PER_TICK);\n    for (const id of expired) this.machine.leases.revoke(id);',
    leases('a leader of the past ends no lease'),
  ),
];
