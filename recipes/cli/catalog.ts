/** Every verb, with what its group's help says about it. Its module is loaded when it is used. */
import type { VerbModule } from './verb.ts';

export type Entry = {
  readonly name: string;
  readonly summary: string;
} & (
  | { readonly load: () => Promise<VerbModule>; readonly group?: string }
  | { readonly verbs: readonly Entry[]; readonly group?: string }
);

const run = 'Run a command:';
const server = 'Run a server:';
const look = 'Look:';
const data = 'Data:';
const administer = 'Administer:';

export const catalog: readonly Entry[] = [
  {
    name: 'lock',
    group: run,
    summary: 'run a command while holding a lock',
    load: () => import('./verbs/lock.ts'),
  },
  {
    name: 'elect',
    group: run,
    summary: 'run a command while being the leader',
    load: () => import('./verbs/elect.ts'),
  },
  {
    name: 'work',
    group: run,
    summary: 'run a command for each job of a queue',
    load: () => import('./verbs/work.ts'),
  },
  {
    name: 'serve',
    group: server,
    summary: 'run a server; takes the flags of etcd',
    load: () => import('./verbs/serve.ts'),
  },
  {
    name: 'status',
    group: look,
    summary: 'state of every member',
    load: () => import('./verbs/status.ts'),
  },
  {
    name: 'locks',
    group: look,
    summary: 'who holds and who waits',
    verbs: [
      {
        name: 'show',
        summary: 'holder and waiters of a lock, in order',
        load: () => import('./verbs/locks/show.ts'),
      },
    ],
  },
  {
    name: 'services',
    group: look,
    summary: 'registered instances of a service',
    load: () => import('./verbs/services.ts'),
  },
  {
    name: 'kv',
    group: data,
    summary: 'keys and values',
    verbs: [
      { name: 'get', summary: 'read keys', load: () => import('./verbs/kv/get.ts') },
      { name: 'put', summary: 'write a key', load: () => import('./verbs/kv/put.ts') },
      { name: 'del', summary: 'delete keys', load: () => import('./verbs/kv/del.ts') },
      {
        name: 'txn',
        summary: 'conditions and operations in one step',
        load: () => import('./verbs/kv/txn.ts'),
      },
      { name: 'watch', summary: 'follow changes', load: () => import('./verbs/kv/watch.ts') },
    ],
  },
  {
    name: 'lease',
    group: data,
    summary: 'leases, which keys may live by',
    verbs: [
      { name: 'grant', summary: 'make a lease', load: () => import('./verbs/lease/grant.ts') },
      {
        name: 'revoke',
        summary: 'end a lease and delete its keys',
        load: () => import('./verbs/lease/revoke.ts'),
      },
      {
        name: 'keep-alive',
        summary: 'renew a lease until interrupted',
        load: () => import('./verbs/lease/keep-alive.ts'),
      },
      { name: 'ttl', summary: 'time left of a lease', load: () => import('./verbs/lease/ttl.ts') },
      { name: 'list', summary: 'every lease', load: () => import('./verbs/lease/list.ts') },
    ],
  },
  {
    name: 'queue',
    group: data,
    summary: 'work queues',
    verbs: [
      { name: 'push', summary: 'add a job', load: () => import('./verbs/queue/push.ts') },
      { name: 'peek', summary: 'the next jobs', load: () => import('./verbs/queue/peek.ts') },
      {
        name: 'stats',
        summary: 'how many jobs are in which state',
        load: () => import('./verbs/queue/stats.ts'),
      },
      {
        name: 'dead',
        summary: 'jobs that were given up',
        verbs: [
          {
            name: 'list',
            summary: 'what is there and why',
            load: () => import('./verbs/queue/dead-list.ts'),
          },
          {
            name: 'replay',
            summary: 'put jobs back into the queue',
            load: () => import('./verbs/queue/dead-replay.ts'),
          },
          {
            name: 'discard',
            summary: 'delete jobs for good',
            load: () => import('./verbs/queue/dead-discard.ts'),
          },
        ],
      },
    ],
  },
  {
    name: 'member',
    group: administer,
    summary: 'members of the cluster',
    verbs: [
      { name: 'list', summary: 'every member', load: () => import('./verbs/member/list.ts') },
    ],
  },
  {
    name: 'compact',
    group: administer,
    summary: 'forget old revisions',
    load: () => import('./verbs/compact.ts'),
  },
  {
    name: 'snapshot',
    group: administer,
    summary: 'backups',
    verbs: [
      {
        name: 'save',
        summary: 'write a backup to a file',
        load: () => import('./verbs/snapshot/save.ts'),
      },
      {
        name: 'restore',
        summary: 'make a data directory from a backup',
        load: () => import('./verbs/snapshot/restore.ts'),
      },
    ],
  },
  {
    name: 'version',
    group: administer,
    summary: 'the version of this program',
    load: () => import('./verbs/version.ts'),
  },
];
