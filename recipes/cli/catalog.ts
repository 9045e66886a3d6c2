/** Every verb, with what its group's help says about it. Its module is loaded when it is used. */
import type { Example, VerbModule } from './verb.ts';

export type Entry = {
  readonly name: string;
  readonly summary: string;
} & (
  | { readonly load: () => Promise<VerbModule>; readonly group?: string }
  | {
      readonly verbs: readonly Entry[];
      readonly examples: readonly Example[];
      readonly group?: string;
    }
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
    name: 'dev',
    group: server,
    summary: 'run a cluster of several members in this terminal',
    load: () => import('./verbs/dev.ts'),
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
    examples: [['conclave locks show deploy/prod', 'who holds it and who waits, in order']],
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
    examples: [
      ['conclave kv put config/port 8080', 'write'],
      ['conclave kv get config/ --prefix', 'read all below a prefix'],
      ['conclave kv watch config/ --prefix', 'follow changes'],
    ],
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
    examples: [
      ['lease=$(conclave lease grant 60s -o raw)', 'make one'],
      ['conclave kv put nodes/a up --lease "$lease"', 'a key that goes when the lease goes'],
      ['conclave lease keep-alive "$lease"', 'renew it until interrupted'],
    ],
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
    examples: [
      [`conclave queue push mail '{"to":"x@example.com"}'`, 'add a job'],
      ['conclave queue stats mail', 'how many are ready, running, delayed and dead'],
      ['conclave queue dead list mail', 'what was given up, and why'],
    ],
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
        examples: [
          ['conclave queue dead list mail', 'what is there and why'],
          [
            'conclave queue dead replay mail --error ETIMEDOUT',
            'run again what failed for one reason',
          ],
          ['conclave queue dead discard mail ID', 'delete one for good'],
        ],
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
    examples: [
      ['conclave member list', 'every member with its addresses'],
      ['conclave member add d --peer-urls http://10.0.0.4:2380', 'as a learner'],
      [
        'conclave member replace 8e9e05c52164694d d --peer-urls http://10.0.0.4:2380',
        'another machine for one that is lost',
      ],
    ],
    verbs: [
      { name: 'list', summary: 'every member', load: () => import('./verbs/member/list.ts') },
      {
        name: 'add',
        summary: 'let a new member join',
        load: () => import('./verbs/member/add.ts'),
      },
      {
        name: 'promote',
        summary: 'give a learner its vote',
        load: () => import('./verbs/member/promote.ts'),
      },
      {
        name: 'replace',
        summary: 'one member for another, safely',
        load: () => import('./verbs/member/replace.ts'),
      },
      {
        name: 'update',
        summary: 'change the addresses of a member',
        load: () => import('./verbs/member/update.ts'),
      },
      {
        name: 'remove',
        summary: 'take a member out for good',
        load: () => import('./verbs/member/remove.ts'),
      },
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
    examples: [
      ['conclave snapshot save backup.db', 'write one, checked as it arrives'],
      [
        'conclave snapshot restore backup.db --data-dir ./restored',
        'make a data directory from it',
      ],
    ],
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
