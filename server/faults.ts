/**
 * Every way in which the server refuses, with etcd's exact code and text: clients match on both.
 *
 * Apply returns faults as values and never throws; whatever throws there is a bug and stops the
 * member. At the edge a fault becomes a gRPC status.
 */

/** The gRPC status codes in use. */
export const Status = {
  CANCELED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;
export type StatusCode = (typeof Status)[keyof typeof Status];

type FaultRow = { readonly status: StatusCode; readonly message: string };

/**
 * etcd declares `too many requests` and `not enough started members` with other codes, but sends
 * both as UNKNOWN in every release; what is on the wire is what counts.
 */
export const faults = {
  'empty-key': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: key is not provided' },
  'key-not-found': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: key not found' },
  'value-provided': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: value is provided' },
  'lease-provided': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: lease is provided' },
  'too-many-operations': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: too many operations in txn request',
  },
  'duplicate-key': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: duplicate key given in txn request',
  },
  'invalid-client-api-version': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: invalid client api version',
  },
  'invalid-sort-option': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: invalid sort option',
  },
  compacted: {
    status: Status.OUT_OF_RANGE,
    message: 'etcdserver: mvcc: required revision has been compacted',
  },
  'future-revision': {
    status: Status.OUT_OF_RANGE,
    message: 'etcdserver: mvcc: required revision is a future revision',
  },
  'no-space': {
    status: Status.RESOURCE_EXHAUSTED,
    message: 'etcdserver: mvcc: database space exceeded',
  },
  'lease-not-found': { status: Status.NOT_FOUND, message: 'etcdserver: requested lease not found' },
  'lease-exists': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: lease already exists',
  },
  'lease-ttl-too-large': {
    status: Status.OUT_OF_RANGE,
    message: 'etcdserver: too large lease TTL',
  },
  'watch-canceled': { status: Status.CANCELED, message: 'etcdserver: watch canceled' },
  'member-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: member ID already exist',
  },
  'peer-url-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: Peer URLs already exists',
  },
  'member-not-enough-started': {
    status: Status.UNKNOWN,
    message: 'etcdserver: re-configuration failed due to not enough started members',
  },
  'member-bad-urls': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: given member URLs are invalid',
  },
  'member-not-found': { status: Status.NOT_FOUND, message: 'etcdserver: member not found' },
  'member-not-learner': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: can only promote a learner member',
  },
  'learner-not-ready': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: can only promote a learner member which is in sync with leader',
  },
  'too-many-learners': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: too many learner members in cluster',
  },
  'cluster-id-mismatch': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: cluster ID mismatch',
  },
  'request-too-large': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: request is too large',
  },
  'too-many-requests': { status: Status.UNKNOWN, message: 'etcdserver: too many requests' },
  'root-user-not-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: root user does not exist',
  },
  'root-role-not-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: root user does not have root role',
  },
  'user-already-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: user name already exists',
  },
  'user-empty': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: user name is empty' },
  'user-not-found': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: user name not found',
  },
  'role-already-exist': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: role name already exists',
  },
  'role-not-found': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: role name not found',
  },
  'role-empty': { status: Status.INVALID_ARGUMENT, message: 'etcdserver: role name is empty' },
  'auth-failed': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: authentication failed, invalid user ID or password',
  },
  'permission-not-given': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: permission not given',
  },
  'permission-denied': {
    status: Status.PERMISSION_DENIED,
    message: 'etcdserver: permission denied',
  },
  'role-not-granted': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: role is not granted to the user',
  },
  'permission-not-granted': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: permission is not granted to the role',
  },
  'auth-not-enabled': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: authentication is not enabled',
  },
  'invalid-auth-token': {
    status: Status.UNAUTHENTICATED,
    message: 'etcdserver: invalid auth token',
  },
  'invalid-auth-mgmt': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: invalid auth management',
  },
  'auth-old-revision': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: revision of auth store is old',
  },
  'no-leader': { status: Status.UNAVAILABLE, message: 'etcdserver: no leader' },
  'not-leader': { status: Status.FAILED_PRECONDITION, message: 'etcdserver: not leader' },
  'leader-changed': { status: Status.UNAVAILABLE, message: 'etcdserver: leader changed' },
  'not-capable': { status: Status.FAILED_PRECONDITION, message: 'etcdserver: not capable' },
  stopped: { status: Status.UNAVAILABLE, message: 'etcdserver: server stopped' },
  timeout: { status: Status.UNAVAILABLE, message: 'etcdserver: request timed out' },
  'timeout-due-to-leader-fail': {
    status: Status.UNAVAILABLE,
    message: 'etcdserver: request timed out, possibly due to previous leader failure',
  },
  'timeout-due-to-connection-lost': {
    status: Status.UNAVAILABLE,
    message: 'etcdserver: request timed out, possibly due to connection lost',
  },
  'timeout-wait-applied-index': {
    status: Status.UNAVAILABLE,
    message: 'etcdserver: request timed out, waiting for the applied index took too long',
  },
  unhealthy: { status: Status.UNAVAILABLE, message: 'etcdserver: unhealthy cluster' },
  corrupt: { status: Status.DATA_LOSS, message: 'etcdserver: corrupt cluster' },
  'not-supported-for-learner': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: rpc not supported for learner',
  },
  'bad-leader-transferee': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: bad leader transferee',
  },
  'wrong-downgrade-version-format': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: wrong downgrade target version format',
  },
  'invalid-downgrade-target-version': {
    status: Status.INVALID_ARGUMENT,
    message: 'etcdserver: invalid downgrade target version',
  },
  'cluster-version-unavailable': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: cluster version not found during downgrade',
  },
  'downgrade-in-process': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: cluster has a downgrade job in progress',
  },
  'no-inflight-downgrade': {
    status: Status.FAILED_PRECONDITION,
    message: 'etcdserver: no inflight downgrade job',
  },
  canceled: { status: Status.CANCELED, message: 'etcdserver: request canceled' },
  'deadline-exceeded': {
    status: Status.DEADLINE_EXCEEDED,
    message: 'etcdserver: context deadline exceeded',
  },

  // What etcd has no word for: calls that count once, and one change of members at a time.
  'unknown-client': {
    status: Status.FAILED_PRECONDITION,
    message: 'conclave: unknown client',
  },
  /** The client said before that it needs the answer no more: whether it took effect is not known. */
  'sequence-forgotten': {
    status: Status.FAILED_PRECONDITION,
    message: 'conclave: sequence forgotten',
  },
  /** Executed, when it was asked first; what it answered was too large to be kept. */
  'result-forgotten': {
    status: Status.FAILED_PRECONDITION,
    message: 'conclave: result forgotten',
  },
  'change-pending': {
    status: Status.UNAVAILABLE,
    message: 'conclave: another membership change is in progress',
  },
} as const satisfies Record<string, FaultRow>;

export type FaultCode = keyof typeof faults;

/** A refusal on its way to a client. */
export class Fault extends Error {
  override name = 'Fault';
  readonly code: FaultCode;

  constructor(code: FaultCode) {
    super(faults[code].message);
    this.code = code;
  }

  get status(): StatusCode {
    return faults[this.code].status;
  }
}
