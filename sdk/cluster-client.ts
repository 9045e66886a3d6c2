/** Operators' calls over a connection. */
import {
  AlarmRequest_AlarmAction,
  type AlarmResponse,
  AlarmType,
  type Member,
} from '../server/wire/etcdserverpb/rpc.ts';
import type {
  Alarm,
  AlarmKind,
  ClusterApi,
  ClusterMember,
  HashKv,
  MemberCallOptions,
  MemberStatus,
} from './cluster.ts';
import type { Connection } from './connection.ts';
import { aborted, ConclaveError, invalidArgument, isConclaveError } from './errors.ts';
import { judge } from './failures.ts';
import type { MethodName, RequestOf, ResponseOf } from './methods.ts';
import { type CallOptions, parseTimeout } from './options.ts';
import type { CallSettings } from './persistent-call.ts';
import { revisionOf } from './wire-kv.ts';

const alarmTypes = { 'no-space': AlarmType.NOSPACE, corrupt: AlarmType.CORRUPT } as const;

export class ClusterClient implements ClusterApi {
  readonly #connection: Connection;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  get endpoints(): readonly string[] {
    return this.#connection.endpoints.map(({ name }) => name);
  }

  async status(options: MemberCallOptions = {}): Promise<MemberStatus> {
    const status = await this.#call('status', {}, options);
    const { header } = status;
    return {
      memberId: header?.memberId ?? 0n,
      clusterId: header?.clusterId ?? 0n,
      revision: header?.revision ?? 0n,
      version: status.version,
      leader: status.leader,
      isLearner: status.isLearner,
      raftTerm: status.raftTerm,
      raftIndex: status.raftIndex,
      raftAppliedIndex: status.raftAppliedIndex,
      sizeBytes: status.dbSize,
      usedBytes: status.dbSizeInUse,
      quotaBytes: status.dbSizeQuota,
      errors: status.errors,
    };
  }

  async members(options: CallOptions = {}): Promise<readonly ClusterMember[]> {
    const { members } = await this.#call('memberList', { linearizable: true }, options);
    return members.map(fromMember);
  }

  async addMember(
    peerUrls: readonly string[],
    options: CallOptions & { readonly learner?: boolean } = {},
  ): Promise<ClusterMember> {
    const request = { peerURLs: [...peerUrls], isLearner: options.learner ?? false };
    const { member } = await this.#call('memberAdd', request, options);
    if (member === undefined) {
      throw new ConclaveError('INTERNAL', 'The answer lacks the member', { outcome: 'applied' });
    }
    return fromMember(member);
  }

  async removeMember(id: bigint, options: CallOptions = {}): Promise<void> {
    await this.#call('memberRemove', { ID: id }, options);
  }

  async updateMember(
    id: bigint,
    peerUrls: readonly string[],
    options: CallOptions = {},
  ): Promise<void> {
    await this.#call('memberUpdate', { ID: id, peerURLs: [...peerUrls] }, options);
  }

  async promoteMember(id: bigint, options: CallOptions = {}): Promise<void> {
    await this.#call('memberPromote', { ID: id }, options);
  }

  async replaceMember(learner: bigint, old: bigint, options: CallOptions = {}): Promise<void> {
    try {
      await this.#call('memberReplace', { learnerId: learner, oldId: old }, options);
    } catch (error) {
      if (!isConclaveError(error, 'UNIMPLEMENTED')) throw error;
      const members = await this.members(options);
      const isVoter = members.some(({ id, isLearner }) => id === learner && !isLearner);
      if (!isVoter) await this.promoteMember(learner, options);
      await this.removeMember(old, options);
    }
  }

  async alarms(options: CallOptions = {}): Promise<readonly Alarm[]> {
    const request = {
      action: AlarmRequest_AlarmAction.GET,
      memberID: 0n,
      alarm: AlarmType.NONE,
    };
    return fromAlarms(await this.#call('alarm', request, options));
  }

  async disarm(alarm: Alarm, options: CallOptions = {}): Promise<readonly Alarm[]> {
    const type = alarmTypes[alarm.kind];
    if (type === undefined) {
      throw invalidArgument('alarm.kind', alarm.kind, Object.keys(alarmTypes).join(' or '));
    }
    const request = {
      action: AlarmRequest_AlarmAction.DEACTIVATE,
      memberID: alarm.memberId,
      alarm: type,
    };
    return fromAlarms(await this.#call('alarm', request, options));
  }

  async moveLeader(target: bigint, options: MemberCallOptions = {}): Promise<void> {
    await this.#call('moveLeader', { targetID: target }, options);
  }

  async defragment(options: MemberCallOptions = {}): Promise<void> {
    await this.#call('defragment', {}, options);
  }

  async hashKv(options: MemberCallOptions & { readonly revision?: bigint } = {}): Promise<HashKv> {
    const request = { revision: revisionOf(options.revision, 'revision') };
    const response = await this.#call('hashKV', request, options);
    return {
      hash: response.hash,
      revision: response.header?.revision ?? 0n,
      hashRevision: response.hashRevision,
      compactRevision: response.compactRevision,
    };
  }

  async *snapshot(options: MemberCallOptions = {}): AsyncGenerator<Uint8Array, void> {
    const { signal } = options;
    const controller = new AbortController();
    const onAbort = () => controller.abort();
    if (signal?.aborted) throw aborted(signal);
    signal?.addEventListener('abort', onAbort);
    const own =
      options.endpoint === undefined ? undefined : this.#connection.ownLink(options.endpoint);
    try {
      const timeoutMs = parseTimeout(options) ?? this.#connection.requestTimeoutMs;
      await own?.connected(timeoutMs);
      const link = own ?? (await this.#connection.link(timeoutMs, signal));
      for await (const { blob } of link.snapshot({ signal: controller.signal })) yield blob;
    } catch (failure) {
      if (signal?.aborted) throw aborted(signal);
      throw failure instanceof ConclaveError ? failure : judge(failure, 'read').error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      controller.abort();
      own?.close();
    }
  }

  #call<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: MemberCallOptions,
  ): Promise<ResponseOf<M>> {
    const settings: CallSettings = { signal: options.signal, timeoutMs: parseTimeout(options) };
    return options.endpoint === undefined
      ? this.#connection.call(method, request, settings)
      : this.#connection.callMember(options.endpoint, method, request, settings);
  }
}

const fromMember = (member: Member): ClusterMember => ({
  id: member.ID,
  name: member.name,
  peerUrls: member.peerURLs,
  clientUrls: member.clientURLs,
  isLearner: member.isLearner,
});

const fromAlarms = (response: AlarmResponse): readonly Alarm[] =>
  response.alarms.flatMap(({ memberID, alarm }) => {
    const kind = alarmKind(alarm);
    return kind === undefined ? [] : [{ memberId: memberID, kind }];
  });

const alarmKind = (type: AlarmType): AlarmKind | undefined => {
  if (type === AlarmType.NOSPACE) return 'no-space';
  return type === AlarmType.CORRUPT ? 'corrupt' : undefined;
};
