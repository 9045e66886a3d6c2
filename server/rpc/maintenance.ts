/** The Maintenance service, all but the snapshot stream. */
import { Fault, Status } from '../faults.ts';
import type { Alarm, AlarmKind } from '../roster.ts';
import {
  type AlarmMember,
  AlarmRequest_AlarmAction,
  AlarmType,
  MaintenanceDefinition,
} from '../wire/etcdserverpb/rpc.ts';
import { toNumber } from './convert.ts';
import { headerAt, headerNow, headerWithoutRevision } from './header.ts';
import { methodsOf } from './method.ts';
import type { ServiceContext } from './services.ts';
import { Rejection } from './status.ts';
import { ETCD_CLUSTER_VERSION, ETCD_VERSION } from './version.ts';

const wireAlarm = (kind: AlarmKind): AlarmType =>
  kind === 'no-space' ? AlarmType.NOSPACE : AlarmType.CORRUPT;

const alarmMember = ({ memberId, alarm }: Alarm): AlarmMember => ({
  memberID: memberId,
  alarm: wireAlarm(alarm),
});

/** etcd's text form of an alarm, as tools read it. */
const alarmText = ({ memberId, alarm }: Alarm): string =>
  `memberID:${memberId} alarm:${alarm === 'no-space' ? 'NOSPACE' : 'CORRUPT'} `;

function alarmKind(value: number): AlarmKind | undefined {
  if (value === AlarmType.NONE) return undefined;
  if (value === AlarmType.NOSPACE) return 'no-space';
  if (value === AlarmType.CORRUPT) return 'corrupt';
  throw new Rejection(
    Status.INVALID_ARGUMENT,
    `alarm is ${value}: allowed are 0 (NONE), 1 (NOSPACE) and 2 (CORRUPT)`,
  );
}

export function maintenanceMethods({ member, logger }: ServiceContext) {
  const method = methodsOf(member, MaintenanceDefinition);
  const { methods } = MaintenanceDefinition;

  const status = method(
    methods.status,
    async () => {
      const { space } = member;
      const errors = member.alarms.map(alarmText);
      if (member.leader === 0n) errors.unshift(new Fault('no-leader').message);
      return {
        header: headerNow(member),
        version: ETCD_VERSION,
        dbSize: BigInt(space.sizeBytes),
        dbSizeInUse: BigInt(space.usedBytes),
        dbSizeQuota: BigInt(space.quotaBytes),
        leader: member.leader,
        raftIndex: BigInt(member.commitIndex),
        raftTerm: BigInt(member.term),
        raftAppliedIndex: BigInt(member.appliedIndex),
        errors,
        isLearner: member.isLearner,
        storageVersion: ETCD_CLUSTER_VERSION,
        downgradeInfo: { enabled: false, targetVersion: '' },
      };
    },
    { onLearner: () => true },
  );

  const alarm = method(methods.alarm, async (message) => {
    const kind = alarmKind(message.alarm);
    const action: number = message.action;
    if (action === AlarmRequest_AlarmAction.GET) {
      const raised = member.alarms.filter((each) => kind === undefined || each.alarm === kind);
      return { header: headerNow(member), alarms: raised.map(alarmMember) };
    }
    if (action > AlarmRequest_AlarmAction.DEACTIVATE) {
      throw new Rejection(
        Status.INVALID_ARGUMENT,
        `action is ${action}: allowed are 0 (GET), 1 (ACTIVATE) and 2 (DEACTIVATE)`,
      );
    }
    if (kind === undefined) return { header: headerNow(member), alarms: [] };
    const memberId = message.memberID;
    const isRaised = member.alarms.some((a) => a.memberId === memberId && a.alarm === kind);
    const isActivation = action === AlarmRequest_AlarmAction.ACTIVATE;
    const result = await member.propose({
      kind: 'alarm',
      action: isActivation ? 'activate' : 'deactivate',
      memberId,
      alarm: kind,
    });
    return {
      header: headerAt(member, result.revision),
      alarms: isActivation || isRaised ? [alarmMember({ memberId, alarm: kind })] : [],
    };
  });

  /**
   * Free pages are used again in place and reads and writes are never stopped to move data, so there
   * is nothing to do; scripts that defragment after compacting must not fail on that.
   */
  const defragment = method(methods.defragment, async () => {
    logger.info('defragment: nothing to do, space freed by compaction is reused in place');
    return { header: headerWithoutRevision(member) };
  });

  const hash = method(methods.hash, async () => {
    const result = await member.hashKv(0);
    return { header: headerNow(member), hash: result.hash };
  });

  const hashKV = method(methods.hashKV, async (message) => {
    const result = await member.hashKv(toNumber(message.revision));
    return {
      header: headerNow(member),
      hash: result.hash,
      compactRevision: BigInt(result.compactRevision),
      hashRevision: BigInt(result.hashRevision),
    };
  });

  const moveLeader = method(methods.moveLeader, async (message) => {
    if (!member.isLeader) throw new Fault('not-leader');
    const target = member.members.find((each) => each.id === message.targetID);
    if (target === undefined || target.isLearner) throw new Fault('bad-leader-transferee');
    if (target.id !== member.memberId) await member.moveLeader(target.id);
    return { header: headerWithoutRevision(member) };
  });

  const downgrade = method(methods.downgrade, () =>
    Promise.reject(
      new Rejection(
        Status.UNIMPLEMENTED,
        'downgrade is not supported: restore a snapshot taken by the older version',
      ),
    ),
  );

  return { status, alarm, defragment, hash, hashKV, moveLeader, downgrade };
}
