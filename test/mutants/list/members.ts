/** Defects of configurations and snapshots in the Raft core. */
import type { Killer, Mutant, Patch } from '../mutant.ts';
import { script, seeds } from './killers.ts';

type Change = readonly [file: string, find: string, replace: string];

const patch = ([file, find, replace]: Change): Patch => ({
  file: `server/raft/${file}`,
  find,
  replace,
});

const members = (
  number: number,
  name: string,
  changes: readonly Change[],
  ...killers: readonly Killer[]
): Mutant => ({ number, name, patches: changes.map(patch), killers });

export const memberMutants: readonly Mutant[] = [
  members(
    30,
    'campaigns by the configuration before the one that is committed',
    [
      [
        'state.ts',
        '&& !this.durability.isInstalling && !this.isBehindChange;',
        '&& !this.durability.isInstalling;',
      ],
    ],
    seeds('T2'),
    script('campaign waits for a committed change'),
  ),
  members(
    31,
    'two changes of the members at a time',
    [
      [
        'proposal.ts',
        "if (state.isChanging) return 'change-pending';",
        "if (state.isChanging && kind === 'leave') return 'change-pending';",
      ],
    ],
    seeds('T2'),
    script('change waits until the one before is applied'),
  ),
  members(
    32,
    'change of the members before the own term committed',
    [['proposal.ts', "if (state.log.commit < leader.firstIndex) return 'not-ready';", '']],
    seeds('T2'),
    script('change waits for an entry of the own term'),
  ),
  members(
    33,
    'learners count',
    [
      [
        'quorum.ts',
        'function majorities({ voters, outgoing }: Configuration)',
        'function majorities({ voters: own, outgoing, learners }: Configuration)',
      ],
      [
        'quorum.ts',
        'return outgoing.length > 0 ?',
        'const voters = [...own, ...learners];\n  return outgoing.length > 0 ?',
      ],
    ],
    seeds('T2'),
    script('learner is sent everything and decides nothing'),
  ),
  members(
    34,
    'confirmations of removed members count',
    [
      [
        'membership.ts',
        'role.peers = new Map(\n    state',
        'role.peers = new Map([\n    ...role.peers,\n    ...state',
      ],
      [
        'membership.ts',
        'newcomer(state.log.lastIndex)]),\n  );',
        'newcomer(state.log.lastIndex)] as const),\n  ]);',
      ],
      [
        'replication.ts',
        'const index = quorumValue(state.configuration, (voter) =>\n    voter === state.id ? state.durability.durableIndex : (leader.peers.get(voter)?.match ?? 0),\n  );',
        `const { voters, learners } = state.configuration;
  const others = [...leader.peers].filter(([peer]) => !learners.includes(peer));
  const held = [state.durability.durableIndex, ...others.map(([, { match }]) => match)];
  const index = held.sort((a, b) => b - a)[Math.floor(voters.length / 2)] ?? 0;
  void quorumValue;`,
      ],
    ],
    seeds('T2'),
    script('removed member is not counted'),
  ),
  members(
    35,
    'one majority of a joint configuration is enough',
    [
      [
        'quorum.ts',
        'return outgoing.length > 0 ? [voters, outgoing]',
        'return outgoing.length < 0 ? [voters, outgoing]',
      ],
    ],
    seeds('T2'),
    script('joint commit needs both majorities'),
  ),
  members(
    36,
    'snapshot without its configuration',
    [
      [
        'raft.ts',
        'configure(state, snapshot.index, snapshot.configuration);',
        'configure(state, snapshot.index, state.configuration);',
      ],
    ],
    seeds('T2'),
    script('snapshot carries the members'),
  ),
  members(
    37,
    'snapshot keeps a tail that conflicts with it',
    [
      [
        'log.ts',
        'this.#start = position;\n    this.#entries = [];',
        'this.#entries = this.#entries.filter(({ index }) => index > position.index);\n    this.#start = position;',
      ],
    ],
    seeds('T2'),
    script('snapshot replaces a conflicting tail'),
  ),
  members(
    38,
    'of two snapshots in quick succession the first one is stored',
    [['durability.ts', 'this.#snapshot = snapshot;', 'this.#snapshot ??= snapshot;']],
    seeds('T2'),
    script('snapshot twice in quick succession'),
  ),
];
