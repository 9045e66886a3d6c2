import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Config, ConfigError, describeFlags, loadConfig } from '../../server/config.ts';
import { limits } from '../../server/limits.ts';

type Given = {
  readonly environment?: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
};

const load = (argv: readonly string[], { environment = {}, files = {} }: Given = {}) =>
  loadConfig({
    argv,
    environment,
    readFile: (path) => {
      const content = files[path];
      if (content === undefined) throw new Error(`no such file: ${path}`);
      return content;
    },
  });

const configOf = (argv: readonly string[], given: Given = {}): Config => load(argv, given).config;

/** The one line that is shown; fails when nothing is thrown. */
const problemOf = (argv: readonly string[], given: Given = {}): string => {
  try {
    load(argv, given);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    expect(error.message).not.toContain('\n');
    return error.message;
  }
  throw new Error(`accepted: ${argv.join(' ')}`);
};

const url = (text: string) => expect.objectContaining({ url: text });

test('no settings at all give a member that serves this machine', () => {
  const { config, warnings } = load([]);
  expect(warnings).toEqual([]);
  expect(config).toEqual({
    name: 'default',
    dataDirectory: 'default.conclave',
    listenClientUrls: [url('http://localhost:2379')],
    advertiseClientUrls: [url('http://localhost:2379')],
    listenPeerUrls: [],
    initialAdvertisePeerUrls: [url('http://localhost:2380')],
    listenMetricsUrls: [],
    initialCluster: [{ name: 'default', peerUrls: [url('http://localhost:2380')] }],
    initialClusterState: 'new',
    initialClusterToken: 'etcd-cluster',
    strictReconfigCheck: true,
    heartbeatIntervalMs: 100,
    electionTimeoutMs: 1000,
    snapshotCount: 10_000,
    catchUpEntries: limits.catchUpEntries,
    quotaBytes: limits.quotaBytes,
    autoCompaction: { mode: 'periodic', retentionMs: 3_600_000 },
    maxTxnOps: limits.txnOps,
    maxRequestBytes: limits.requestBytes,
    watchProgressNotifyIntervalMs: 600_000,
    grpcServer: 'lean',
    cors: [],
    hostWhitelist: ['*'],
    logLevel: 'info',
    logFormat: 'console',
    logOutputs: ['stderr'],
  } satisfies Record<keyof Config, unknown>);
});

test('the result cannot be changed', () => {
  const config = configOf([]) as unknown as { name: string; listenClientUrls: { url: string }[] };
  expect(() => {
    config.name = 'x';
  }).toThrow(TypeError);
  expect(() => config.listenClientUrls.pop()).toThrow(TypeError);
});

test.each([[['--name', 'm1']], [['--name=m1']], [['-name', 'm1']], [['-name=m1']]])(
  'reads %j',
  (argv) => {
    expect(configOf(argv)).toMatchObject({ name: 'm1', dataDirectory: 'm1.conclave' });
  },
);

test('a three-member cluster in etcd’s words', () => {
  const config = configOf([
    ...['--name', 'a', '--data-dir', '/var/lib/x'],
    ...['--listen-client-urls', 'http://0.0.0.0:2379,unix:///run/c.sock'],
    ...['--advertise-client-urls', 'http://a.example:2379'],
    ...['--listen-peer-urls', 'http://[::]:2380'],
    ...['--initial-advertise-peer-urls', 'http://a.example:2380'],
    '--initial-cluster=a=http://a.example:2380,b=http://b.example:2380,c=http://c.example:2380',
    ...['--initial-cluster-token', 'blue', '--initial-cluster-state', 'existing'],
    ...['--auto-compaction-mode', 'revision', '--auto-compaction-retention', '1000'],
    ...['--quota-backend-bytes', '8589934592', '--snapshot-count', '5000'],
  ]);
  expect(config.listenClientUrls).toEqual([
    { kind: 'tcp', host: '0.0.0.0', port: 2379, url: 'http://0.0.0.0:2379' },
    { kind: 'unix', path: '/run/c.sock', url: 'unix:///run/c.sock' },
  ]);
  expect(config.listenPeerUrls).toEqual([
    { kind: 'tcp', host: '::', port: 2380, url: 'http://[::]:2380' },
  ]);
  expect(config.initialCluster.map((member) => member.name)).toEqual(['a', 'b', 'c']);
  expect(config.autoCompaction).toEqual({ mode: 'revision', keep: 1000 });
  expect(config.quotaBytes).toBe(8 * 1024 ** 3);
});

test.each([
  [['--strict-reconfig-check'], true],
  [['--strict-reconfig-check=false', '--name', 'a'], false],
  [['--strict-reconfig-check', '--name', 'a'], true],
])('a switch may stand without a value: %j', (argv, expected) => {
  expect(configOf(argv).strictReconfigCheck).toBe(expected);
});

test('a switch takes no other word', () => {
  expect(problemOf(['--strict-reconfig-check=maybe'])).toMatch(/"maybe".*true or false/);
});

describe('flags that contradict each other', () => {
  test('listening elsewhere without advertising it', () => {
    expect(problemOf(['--listen-client-urls', 'http://0.0.0.0:2379'])).toBe(
      '--advertise-client-urls is required when --listen-client-urls is set explicitly',
    );
  });

  test.each([
    [['--election-timeout', '499'], /499.*--election-timeout.*at least 5 times/],
    [['--election-timeout', '50001'], /50001.*--election-timeout.*50000/],
    [['--initial-cluster', 'other=http://h:2380'], /this member, --name "default"/],
    [['--initial-cluster', 'default=http://h:2380'], /--initial-advertise-peer-urls for 'default'/],
    [
      ['--initial-cluster', 'default=http://localhost:2380,b=http://localhost:2380'],
      /every URL occurs once/,
    ],
    [['--listen-peer-urls', 'unix:///run/peer.sock'], /--listen-peer-urls.*http:/],
    [['--auto-compaction-mode', 'revision'], /needs --auto-compaction-retention/],
  ])('%j', (argv, message) => {
    expect(problemOf(argv)).toMatch(message);
  });
});

test.each([
  ['0', { mode: 'off' }],
  ['0h', { mode: 'off' }],
  ['2', { mode: 'periodic', retentionMs: 7_200_000 }],
  ['90m', { mode: 'periodic', retentionMs: 5_400_000 }],
  ['1h30m', { mode: 'periodic', retentionMs: 5_400_000 }],
])('--auto-compaction-retention %s', (value, policy) => {
  expect(configOf(['--auto-compaction-retention', value]).autoCompaction).toEqual(policy);
});

describe('URLs', () => {
  test.each([
    ['ftp://x:1', /'http:\/\/127.0.0.1:2379'/],
    ['http://127.0.0.1', /with a port/],
    ['http://127.0.0.1:65536', /with a port/],
    ['http://127.0.0.1:2379/path', /with a port/],
    ['http://user@127.0.0.1:2379', /with a port/],
    ['http://example.com:2379', /IP address or localhost to bind/],
    ['http://[nonsense]:2379', /IPv6 address/],
    ['https://127.0.0.1:2379', /TLS is not supported yet/],
    ['unix:relative.sock', /absolute path/],
    ['', /http:\/\/127/],
    ['127.0.0.1:2379', /http:\/\/127/],
  ])('%s cannot be listened on', (value, message) => {
    const problem = problemOf([
      ...['--listen-client-urls', value, '--advertise-client-urls', 'http://h:1'],
    ]);
    expect(problem).toMatch(message);
    expect(problem).toContain('--listen-client-urls');
  });

  test('an advertised URL needs a host', () => {
    expect(problemOf(['--advertise-client-urls', 'http://:2379'])).toMatch(/others can reach/);
  });
});

describe('numbers', () => {
  const numeric: readonly [flag: string, min: number, max: number][] = [
    ['heartbeat-interval', 1, 200],
    ['election-timeout', 500, 50_000],
    ['snapshot-count', 1, 1_000_000_000],
    ['quota-backend-bytes', Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    ['max-txn-ops', 1, 1_000_000],
    ['max-request-bytes', 1, limits.walBatchBytes / 2],
  ];

  test.each(numeric)('--%s takes %d and %d and nothing beyond', (flag, min, max) => {
    expect(() => configOf([`--${flag}`, `${min}`])).not.toThrow();
    expect(() => configOf([`--${flag}`, `${max}`])).not.toThrow();
    expect(problemOf([`--${flag}=${BigInt(min) - 1n}`])).toContain(`--${flag}`);
    expect(problemOf([`--${flag}=${BigInt(max) + 1n}`])).toContain(`--${flag}`);
  });

  const notNumbers = [
    '',
    ' ',
    'NaN',
    'Infinity',
    '1e999',
    '1e3',
    '1.5',
    '0x10',
    '1_000',
    '١',
    '+1',
  ];
  test.each(numeric.flatMap(([flag]) => notNumbers.map((value) => [flag, value] as const)))(
    '--%s refuses %j',
    (flag, value) => {
      const problem = problemOf([`--${flag}=${value}`]);
      expect(problem).toContain(`--${flag}`);
      expect(problem).toContain(JSON.stringify(value));
      expect(problem).toMatch(/whole number from -?\d+ to \d+/);
    },
  );

  test('whatever is written, a number is refused by name or is what it says', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...numeric),
        fc.oneof(
          fc.string(),
          fc.integer().map(String),
          fc.double().map(String),
          fc.bigInt().map(String),
        ),
        ([flag], value) => {
          if (value.startsWith('--')) return;
          try {
            configOf([`--${flag}=${value}`]);
          } catch (error) {
            expect(error).toBeInstanceOf(ConfigError);
            expect((error as ConfigError).message).toContain(`--${flag}`);
            return;
          }
          expect(value).toMatch(/^-?\d+$/);
        },
      ),
    );
  });

  test('a negative quota is no quota', () => {
    expect(configOf(['--quota-backend-bytes=-1']).quotaBytes).toBe(Number.MAX_SAFE_INTEGER);
  });

  test.each(['-5s', '5', '1e9s', 'soon', '0', '', '9999999h', '0.1ms'])(
    '--watch-progress-notify-interval refuses %j',
    (value) => {
      const problem = problemOf([`--watch-progress-notify-interval=${value}`]);
      expect(problem).toContain('--watch-progress-notify-interval');
      expect(problem).toContain("'5s'");
    },
  );
});

describe('unknown flags', () => {
  test.each([
    ['--data-dri', '--data-dir'],
    ['--listen-client-url', '--listen-client-urls'],
    ['--election-timout=5', '--election-timeout'],
  ])('%s suggests %s', (given, suggestion) => {
    expect(problemOf([given, 'x'])).toBe(
      `unknown flag ${JSON.stringify(given)}: did you mean ${suggestion}?`,
    );
  });

  test('a flag like none', () => {
    expect(problemOf(['--quux'])).toBe('unknown flag "--quux"');
  });

  test('a word that is no flag, and a flag without its value', () => {
    expect(problemOf(['serve'])).toContain('unexpected argument "serve"');
    expect(problemOf(['--name'])).toContain('--name needs a value');
    expect(problemOf(['--name', '--data-dir', 'x'])).toContain('--name needs a value');
  });
});

describe('the environment', () => {
  test.each(['CONCLAVE_DATA_DIR', 'ETCD_DATA_DIR'])('%s is read', (variable) => {
    expect(configOf([], { environment: { [variable]: '/d' } }).dataDirectory).toBe('/d');
  });

  test('empty variables count as unset', () => {
    expect(configOf(['--name', 'a'], { environment: { ETCD_NAME: '' } }).name).toBe('a');
  });

  test('a flag and a variable for one setting are a conflict', () => {
    expect(problemOf(['--name', 'a'], { environment: { ETCD_NAME: 'a' } })).toBe(
      '--name and ETCD_NAME are both set: use one of them',
    );
  });

  test('two variables may agree but not differ', () => {
    expect(configOf([], { environment: { ETCD_NAME: 'a', CONCLAVE_NAME: 'a' } }).name).toBe('a');
    expect(problemOf([], { environment: { ETCD_NAME: 'a', CONCLAVE_NAME: 'b' } })).toContain(
      'differ',
    );
  });

  test('a wrong variable is named as it was written', () => {
    expect(problemOf([], { environment: { CONCLAVE_HEARTBEAT_INTERVAL: 'x' } })).toContain(
      'as CONCLAVE_HEARTBEAT_INTERVAL',
    );
  });

  test('unknown variables are reported, those of clients are not', () => {
    const { warnings } = load([], {
      environment: {
        ETCD_NAMME: 'x',
        CONCLAVE_ENDPOINTS: 'h:1',
        ETCD_LOCK_KEY: 'k',
        ETCDCTL_API: '3',
        ETCD_VERSION: '3.5.0',
      },
    });
    expect(warnings).toEqual(['ETCD_NAMME is ignored: no such setting']);
  });
});

describe('a configuration file', () => {
  const argv = ['--config-file', 'c.json'];
  const file = (content: unknown): Given => ({ files: { 'c.json': JSON.stringify(content) } });

  test('uses etcd’s keys; durations are nanoseconds', () => {
    const config = configOf(
      argv,
      file({
        name: 'f',
        'heartbeat-interval': 200,
        'watch-progress-notify-interval': 5_000_000_000,
        'auto-compaction-retention': '30m',
        'log-outputs': ['stdout', 'default'],
        'client-transport-security': { 'cert-file': '', 'auto-tls': false },
      }),
    );
    expect(config).toMatchObject({
      name: 'f',
      heartbeatIntervalMs: 200,
      watchProgressNotifyIntervalMs: 5_000,
      autoCompaction: { retentionMs: 1_800_000 },
      logOutputs: ['stdout', 'stderr'],
    });
  });

  test('makes flags and variables have no effect, and says so', () => {
    const { config, warnings } = load([...argv, '--name', 'flag'], {
      ...file({}),
      environment: { ETCD_SNAPSHOT_COUNT: '7' },
    });
    expect(config.name).toBe('default');
    expect(config.snapshotCount).toBe(10_000);
    expect(warnings.join()).toMatch(/ETCD_SNAPSHOT_COUNT, --name ignored/);
  });

  test.each([
    [file({ 'client-transport-security': { 'cert-file': '/x' } }), /TLS is not supported/],
    [file({ namme: 'x' }), /did you mean 'name'/],
    [file({ name: {} }), /'name' in c.json/],
    [file([]), /one JSON object/],
    [{ files: { 'c.json': 'name: x' } }, /must be JSON/],
    [{}, /no such file/],
  ])('%j', (given, message) => {
    expect(problemOf(argv, given)).toMatch(message);
  });
});

describe('etcd’s other flags', () => {
  test('those without meaning are accepted with a warning', () => {
    const { warnings } = load([
      '--experimental-initial-corrupt-check=true',
      '--experimental-watch-progress-notify-interval=5s',
      '--pre-vote',
      ...['--wal-dir', '/wal', '--name', 'a'],
    ]);
    expect(warnings).toEqual([
      '--experimental-initial-corrupt-check is ignored: the log and the store check themselves',
      '--pre-vote is ignored: it is always on',
      '--wal-dir is ignored: the log lives in --data-dir',
    ]);
  });

  test.each([
    ['--cert-file=/x', /TLS is not supported yet/],
    ['--client-cert-auth', /TLS is not supported yet/],
    ['--peer-auto-tls=true', /TLS is not supported yet/],
    ['--auth-token=jwt,sign-method=RS256', /authentication is not supported yet/],
    ['--discovery=https://discovery.etcd.io/x', /--initial-cluster/],
    ['--force-new-cluster', /not supported yet/],
  ])('%s is refused', (flag, message) => {
    expect(problemOf([flag])).toMatch(message);
  });

  test.each(['--cert-file=', '--client-cert-auth=false', '--auto-tls=F', '--auth-token=simple'])(
    '%s asks for nothing',
    (flag) => {
      expect(load([flag]).warnings).toEqual([]);
    },
  );

  test('every flag in etcd’s help is known', async () => {
    const { execFileSync } = await import('node:child_process');
    const help = execFileSync('etcd', ['--help'], { encoding: 'utf8', stdio: 'pipe' });
    const flags = [...help.matchAll(/^ {2}--([a-z0-9-]+)/gm)].map((match) => match[1] ?? '');
    expect(flags.length).toBeGreaterThanOrEqual(80);
    const unknown = flags.filter((flag) => {
      try {
        load([`--${flag}=`]);
        return false;
      } catch (error) {
        return (error as Error).message.startsWith('unknown flag');
      }
    });
    expect(unknown).toEqual([]);
  });
});

test('the help names every flag, its default and what differs from etcd', () => {
  const help = describeFlags();
  expect(help).toContain('--auto-compaction-retention');
  expect(help).toContain('(default 1h)');
  expect(help).toContain('.conclave)');
  expect(help).toMatch(/On by default, unlike etcd/);
});
