/**
 * The language of `scripts/*.txt`: a block is commands, `---`, and what came of them.
 *
 *   members 3 [spare=N] [no-prevote] [no-quorum-check] [append-bytes=N]
 *     [inflight=N] [inflight-bytes=N]
 *   quietly                a block with this line shows no trace: for what is not the subject
 *   elect ID               campaign and settle, without a trace
 *   campaign ID            tick ID|all [N]        propose ID DATA...      read ID READ
 *   transfer ID ID         unreachable ID ID      release ID INDEX    give-up-disk ID
 *   change ID [by-hand] CHANGE...          `+4` voter, `~4` learner, `-4` gone; several are joint
 *   leave ID               proposes to leave a joint configuration
 *   snapshot ID ID         sends what the first has applied to the second
 *   report ID ID sent INDEX|failed         how that ended
 *   lazy ID                its state machine applies only by `apply ID [N]`
 *   slow ID | fast ID      its disk finishes writes only by `store` | by itself in `settle`
 *   store ID               finishes the write under way, if there is one
 *   deliver [FILTER]       delivers what is under way, not the answers to it
 *   settle                 finishes writes and delivers until nothing moves
 *   drop|duplicate|hold|reverse [FILTER]   hold keeps messages aside until `unhold`
 *   cut ID ID | isolate ID | heal          cut is one-way
 *   crash ID | restart ID [INDEX]  loses unfinished writes | reads the disk, and so much of the state
 *   wipe ID                empties the disk of a crashed member
 *   status | log ID
 *
 * FILTER: any of `KIND`, `from=ID`, `to=ID`. Random timeouts are fixed: 10 ticks and the id less 1.
 */
import { assert } from '../../server/assert.ts';
import type { Random } from '../../server/ports.ts';
import type { Configuration } from '../../server/raft/configuration.ts';
import type { Entry, Message, NodeId, Proposal, Ready } from '../../server/raft/message.ts';
import { Cluster, type Member } from './cluster.ts';

export function runScript(script: string): string {
  const runner = new Runner();
  const blocks = script.trim().split(/\n\n+/);
  return `${blocks.map((block) => runner.block(block)).join('\n\n')}\n`;
}

class Runner {
  #cluster: Cluster | undefined;
  #held: Message[] = [];
  #slow = new Set<Member>();
  #trace: string[] = [];

  block(text: string): string {
    const lines = text.split('\n');
    const end = lines.indexOf('---');
    const commands = end < 0 ? lines : lines.slice(0, end);
    if (commands.every((line) => line.startsWith('#'))) return commands.join('\n');
    this.#trace = [];
    for (const line of commands) if (!line.startsWith('#')) this.#command(line);
    const isShown = this.#trace.length > 0 && !commands.includes('quietly');
    const trace = isShown ? this.#trace : ['nothing'];
    return [...commands, '---', ...trace].join('\n');
  }

  #command(line: string): void {
    const [verb = '', ...args] = line.split(/ +/);
    const command = this.#commands[verb];
    if (command === undefined) throw new Error(`unknown command: ${line}`);
    command(args);
  }

  readonly #commands: Record<string, (args: readonly string[]) => void> = {
    members: (args) => this.#create(args),
    quietly: () => {},
    status: () => {
      for (const member of this.#now.members.values()) this.#status(member);
    },
    log: ([id]) => this.#log(this.#member(id)),

    elect: ([id]) => {
      const trace = [...this.#trace];
      this.#act(id, (member) => member.raft?.campaign());
      this.#settle();
      this.#trace = trace;
    },
    tick: (args) => this.#tick(args),
    campaign: ([id]) => this.#act(id, (member) => member.raft?.campaign()),
    propose: ([id, ...data]) => this.#propose(id, data),
    read: ([id, read]) =>
      this.#act(id, (member) => {
        if (member.raft?.read(Number(read)) === false) this.#say(member.id, 'knows no leader');
      }),
    transfer: ([id, to]) =>
      this.#act(id, (member) => {
        const outcome = member.raft?.transferLeadership(BigInt(to ?? 0));
        this.#say(member.id, `transfer: ${outcome}`);
      }),
    unreachable: ([id, node]) =>
      this.#act(id, (member) => member.raft?.unreachable(BigInt(node ?? 0))),
    'give-up-disk': ([id]) => this.#act(id, (member) => member.raft?.stepDown()),
    change: ([id, ...changes]) => this.#change(id, changes.join(' ')),
    leave: ([id]) => this.#change(id, ''),
    snapshot: ([id, to]) => {
      const sent = this.#now.sendSnapshot(this.#member(id), BigInt(to ?? 0));
      if (sent !== undefined) this.#trace.push(describe(sent));
    },
    report: ([id, to, how, index]) =>
      this.#act(id, (member) =>
        member.raft?.snapshotReported(
          BigInt(to ?? 0),
          how === 'sent' ? { sent: true, index: Number(index) } : { sent: false },
        ),
      ),
    lazy: ([id]) => this.#now.lazy.add(this.#member(id)),
    apply: ([id, count = '1000']) => this.#now.apply(this.#member(id), Number(count)),
    release: ([id, index]) => this.#act(id, (member) => member.raft?.release(Number(index))),

    slow: ([id]) => this.#slow.add(this.#member(id)),
    fast: ([id]) => this.#slow.delete(this.#member(id)),
    store: ([id]) => this.#now.finishWrite(this.#member(id)),
    crash: ([id]) => this.#member(id).crash(),
    wipe: ([id]) => this.#member(id).wipe(),
    restart: ([id, index = '0']) => this.#act(id, (member) => member.start(Number(index))),

    settle: () => this.#settle(),
    deliver: (args) => {
      for (const message of this.#take(args)) this.#now.deliver(message);
    },
    drop: (args) => this.#take(args),
    duplicate: (args) => this.#now.network.push(...this.#now.network.filter(filter(args))),
    reverse: (args) => {
      const taken = this.#take(args);
      this.#now.network.push(...taken.reverse());
    },
    hold: (args) => this.#held.push(...this.#take(args)),
    unhold: () => this.#now.network.push(...this.#held.splice(0)),
    cut: ([from, to]) => this.#now.cut(BigInt(from ?? 0), BigInt(to ?? 0)),
    isolate: ([id]) => this.#now.isolate(this.#member(id).id),
    heal: () => this.#now.heal(),
  };

  get #now(): Cluster {
    assert(this.#cluster !== undefined, 'a script begins with members');
    return this.#cluster;
  }

  #create(args: readonly string[]): void {
    const number = (name: string) => {
      const given = args.find((arg) => arg.startsWith(`${name}=`));
      return given === undefined ? undefined : Number(given.slice(name.length + 1));
    };
    const appendBytes = number('append-bytes');
    const inflightMessages = number('inflight');
    const inflightBytes = number('inflight-bytes');
    this.#cluster = new Cluster(
      Number(args[0]),
      number('spare') ?? 0,
      {
        electionTicks: 10,
        heartbeatTicks: 1,
        preVote: !args.includes('no-prevote'),
        checkQuorum: !args.includes('no-quorum-check'),
        limits: {
          ...(appendBytes === undefined ? {} : { appendBytes }),
          ...(inflightMessages === undefined ? {} : { inflightMessages }),
          ...(inflightBytes === undefined ? {} : { inflightBytes }),
        },
      },
      (id) => fixedRandom(id),
      {
        onReady: (member, ready) => this.#record(member, ready),
        onConfigured: ({ id, raft }) => {
          if (raft !== undefined) this.#say(id, `has ${members(raft.configuration)}`);
        },
      },
    );
  }

  #member(id: string | undefined): Member {
    return this.#now.member(BigInt(id ?? 0));
  }

  #act(id: string | undefined, action: (member: Member) => void): void {
    const member = this.#member(id);
    action(member);
    this.#now.pump(member);
  }

  #propose(id: string | undefined, data: readonly string[]): void {
    const kind = 'command' as const;
    this.#offer(
      id,
      data.map((text) => ({ kind, data: Buffer.from(text) })),
    );
  }

  #change(id: string | undefined, changes: string): void {
    this.#offer(id, [{ kind: 'configuration', data: Buffer.from(changes) }]);
  }

  #offer(id: string | undefined, proposals: readonly Proposal[]): void {
    this.#act(id, (member) => {
      const outcome = member.raft?.propose(proposals);
      if (outcome?.accepted === false) this.#say(member.id, `refuses: ${outcome.reason}`);
    });
  }

  #tick([who, count = '1']: readonly string[]): void {
    const members = who === 'all' ? [...this.#now.members.values()] : [this.#member(who)];
    for (let tick = 0; tick < Number(count); tick += 1) {
      for (const member of members) {
        member.raft?.tick();
        this.#now.pump(member);
      }
    }
  }

  #settle(): void {
    let rounds = 0;
    for (let isMoving = true; isMoving; ) {
      rounds += 1;
      assert(rounds < 1_000, 'messages do not go round for ever');
      const messages = this.#take([]);
      const writers = [...this.#now.members.values()].filter(
        (member) => member.write !== undefined && !this.#slow.has(member),
      );
      isMoving = messages.length > 0 || writers.length > 0;
      for (const message of messages) this.#now.deliver(message);
      for (const writer of writers) this.#now.finishWrite(writer);
    }
  }

  #take(args: readonly string[]): Message[] {
    const matches = filter(args);
    const taken = this.#now.network.filter(matches);
    this.#now.network = this.#now.network.filter((message) => !matches(message));
    return taken;
  }

  #record(member: Member, ready: Ready): void {
    const { leadership, write } = ready;
    if (leadership !== undefined) {
      const leader = leadership.leader === 0n ? 'no leader' : `leader ${leadership.leader}`;
      this.#say(member.id, `is ${leadership.role} in term ${leadership.term}, ${leader}`);
    }
    if (write !== undefined) {
      const { hardState } = write;
      const state =
        hardState === undefined
          ? ''
          : ` term ${hardState.term}, vote ${hardState.votedFor}, commit ${hardState.commit}`;
      const { snapshot } = write;
      const position = snapshot === undefined ? '' : ` snapshot ${snapshot.index}/${snapshot.term}`;
      this.#say(member.id, `writes${position}${state} ${list(write.entries)}`);
    }
    for (const message of ready.messages) this.#trace.push(describe(message));
    const applies = this.#now.lazy.has(member) ? 'may apply' : 'applies';
    if (ready.committed.length > 0) this.#say(member.id, `${applies} ${list(ready.committed)}`);
    for (const read of ready.reads) this.#say(member.id, `read ${read.id} at index ${read.index}`);
    for (const id of ready.droppedReads) this.#say(member.id, `read ${id} dropped`);
    for (const peer of ready.needsSnapshot) {
      this.#say(member.id, `has released ${peer.nextIndex}, which ${peer.to} needs`);
    }
    if (ready.forgotten !== undefined) {
      this.#say(member.id, `lacks ${ready.forgotten}, which it had confirmed`);
    }
    for (const { request, reason } of ready.refused) {
      this.#say(member.id, `request ${request} was refused: ${reason}`);
    }
  }

  #log({ id, disk }: Member): void {
    const { term, votedFor, commit } = disk.hardState;
    const log = list(disk.entries);
    this.#say(id, `disk: term ${term}, vote ${votedFor}, commit ${commit}, log ${log}`);
  }

  #status({ id, raft }: Member): void {
    if (raft === undefined) {
      this.#say(id, 'is down');
      return;
    }
    const { role, term, leader, commitIndex, durableIndex, lastIndex } = raft;
    const peers = raft.peers().map((peer) => `${peer.id}: ${peer.flow} ${peer.match}/${peer.next}`);
    this.#say(
      id,
      [
        `${role}, term ${term}, leader ${leader}`,
        `commit ${commitIndex}, durable ${durableIndex}, last ${lastIndex}`,
        ...peers,
      ].join('; '),
    );
  }

  #say(id: NodeId, text: string): void {
    this.#trace.push(`${id} ${text}`);
  }
}

/** Timeouts by id; incarnations 10 times the id, counted up. */
function fixedRandom(id: NodeId): Random {
  let next = id * 10n;
  return {
    below: (bound) => Math.min(Number(id) - 1, bound - 1),
    id: () => {
      next += 1n;
      return next;
    },
  };
}

function filter(args: readonly string[]): (message: Message) => boolean {
  return (message) =>
    args.every((arg) => {
      if (arg.startsWith('from=')) return message.from === BigInt(arg.slice(5));
      if (arg.startsWith('to=')) return message.to === BigInt(arg.slice(3));
      return message.kind === arg;
    });
}

function list(entries: readonly Entry[]): string {
  return `[${entries.map((entry) => `${entry.index}/${entry.term} ${content(entry)}`).join(', ')}]`;
}

function content({ kind, data }: Proposal): string {
  const text = Buffer.from(data).toString();
  if (kind === 'configuration') return text === '' ? 'leave' : `change ${text}`;
  return kind === 'command' ? text : kind;
}

function members({ voters, outgoing, learners, learnersNext }: Configuration): string {
  const lists = Object.entries({ voters, outgoing, learners, 'learners next': learnersNext });
  const shown = lists.filter(([, ids]) => ids.length > 0).map(([name, ids]) => [name, ...ids]);
  return shown.map((words) => words.join(' ')).join(', ');
}

function show(value: DetailOf<Message>): string {
  if (typeof value !== 'object') return `${value}`;
  if ('voters' in value) return `(${members(value)})`;
  const shown = value.map((item) => ('index' in item ? list([item]).slice(1, -1) : content(item)));
  return `[${shown.join(', ')}]`;
}

function describe({ kind, from, to, term, ...rest }: Message): string {
  const details = Object.entries(rest).map(([name, value]) => `${name} ${show(value)}`);
  return [`${from}->${to} ${kind} term ${term}`, ...details].join(', ');
}

type DetailOf<T> = T extends unknown ? T[keyof T] : never;
