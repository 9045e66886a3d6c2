/** Defects of registrations, pools and the resolver for gRPC. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const discovery = plantedIn((file) => `recipes/discovery/${file}.ts`);

const rules = (name: string) => test('recipes/discovery', name);
const registration = (name: string) => test('recipes/discovery-registration', name);
const pool = (name: string) => test('recipes/discovery-pool', name);
const grpc = (name: string) => test('recipes/grpc-resolver', name);

export const discoveryMutants: readonly Mutant[] = [
  discovery(
    511,
    'an instance that is unhealthy says that it is up',
    [
      'registration',
      "return this.#health === undefined || this.#health.isHealthy ? 'up' : 'unhealthy';",
      "return 'up';",
    ],
    registration('is listed with what its first check finds'),
  ),
  discovery(
    512,
    'an instance is listed before its first check has ended',
    ['registration', 'await this.#health?.start(', 'void this.#health?.start('],
    registration('a check that never ends has failed'),
  ),
  discovery(
    513,
    'one contrary check is enough to change the health',
    ['health', 'contrary < (health.healthy ? fall : rise)', 'contrary < 1'],
    rules('the first check decides at once'),
    registration('says so when its checks fail in a row'),
  ),
  discovery(
    514,
    'an instance leaves while its work is under way',
    ['in-flight', 'this.#count > 0 ?', 'this.#count < 0 ?'],
    registration('drains, waits until its work has ended'),
    test('recipes/discovery-registration', 'rest is only when there is no work'),
  ),
  discovery(
    515,
    'a pool empties when the store cannot be reached',
    [
      'instance-feed',
      "      case 'fresh':\n",
      "      case 'fresh':\n        if (notice.type === 'stale') this.#show([], 1n, false);\n",
    ],
    test('recipes/registry', 'while the store cannot be reached a pool keeps'),
    runsOf('registry'),
  ),
  discovery(
    516,
    'all instances are ejected at a time',
    ['outliers', 'Math.min(instances - 1,', 'Math.min(instances,'],
    rules('whatever happens, never all are ejected'),
    rules('at most a share of the instances is ejected'),
  ),
  discovery(
    517,
    'every ejection is as short as the first',
    ['outliers', 'rules.baseEjectionMs * 2 ** Math.min(before, 40)', 'rules.baseEjectionMs'],
    rules('each ejection lasts twice as long'),
    pool('an instance whose calls fail is left out'),
  ),
  discovery(
    518,
    'the time of an ejection counts as good conduct',
    ['outliers', 'record.ejection?.untilMs ?? startMs', 'startMs'],
    rules('each ejection lasts twice as long'),
  ),
  discovery(
    519,
    'what is left bears all the work, however little it is',
    [
      'selection',
      'usable.size === 0 || usable.size / base.length < panic.threshold',
      'usable.size === 0',
    ],
    rules('what is held back is left out, until too little is left'),
    pool('in a panic ejected ones are used'),
  ),
  discovery(
    520,
    'a flapping instance returns as soon as it is below the limit that held it back',
    [
      'damping',
      'flaps.suppressed && nowMs < reusableAtMs(flaps, rules);',
      'flaps.suppressed && penaltyAt(flaps, nowMs, rules) >= rules.suppressAt;',
    ],
    rules('at the reuse limit the instance returns'),
  ),
  discovery(
    521,
    'who leaves with notice is held back as if it had flapped',
    ['standing', "if (event.instance.status !== 'draining') this.#flap", 'this.#flap'],
    pool('an instance that comes and goes'),
  ),
  discovery(
    522,
    'a zone keeps its work, however few of its instances are well',
    ['locality', 'known: instances.length,', 'known: instances.filter(isUsable).length,'],
    rules('unhealthy instances nearby make work spill over'),
    pool('instances nearby are used first'),
  ),
  discovery(
    523,
    'an instance that is deregistered while it is off the list goes on checking and returns',
    [
      'registration',
      'await this.#health?.start(this.#closing.signal);',
      'await this.#health?.start(new AbortController().signal);',
    ],
    registration('stays off the list when it is deregistered'),
  ),
  discovery(
    524,
    'a pool outlives the channels that it is for',
    ['grpc-resolver', 'if (known.users > 0) return;', 'if (known.users >= 0) return;'],
    grpc('pools live as long as channels use them'),
  ),
  discovery(
    525,
    'channels heed no weights',
    ['grpc-endpoints', 'heedsWeights ? ', 'false ? '],
    grpc('weights are heeded'),
  ),
  discovery(
    526,
    'calls of a service that nobody serves wait for their deadline',
    [
      'grpc-resolver',
      'if (endpoints.length === 0) this.trouble(',
      'if (endpoints.length < 0) this.trouble(',
    ],
    grpc('calls fail by name when nobody serves'),
  ),
  discovery(
    527,
    'a pick counts as often as it is ended',
    ['picked', 'if (this.#isEnded) return;', ''],
    pool('an end that says nothing, or says it late'),
  ),
  discovery(
    528,
    'a registration that an old snapshot has forgotten is never written again',
    ['registration', 'const recheckMs = 30_000;', 'const recheckMs = 1e9;'],
    registration('restore an old snapshot'),
  ),
  discovery(
    529,
    'instances that are leaving get more work',
    [
      'selection',
      "const up = working.filter(({ status }) => status === 'up');",
      'const up = listed;',
    ],
    rules('draining instances are never used'),
    test('recipes/registry', 'draining instances are shown but not picked'),
  ),
];
