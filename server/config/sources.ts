/** Where settings are written: the command line, the environment, a file. */
import { ConfigError, type Origin } from './config-error.ts';
import { aliases, type FlagName, flags, switches } from './flags.ts';
import { foreignFlag, refusedBlocks, refusedFlags } from './foreign-flags.ts';
import { nearest } from './nearest.ts';
import { booleanOf } from './values.ts';

export type Setting = { readonly text: string; readonly origin: Origin };

export type Settings = {
  readonly values: ReadonlyMap<FlagName, Setting>;
  readonly warnings: readonly string[];
};

export type Surroundings = {
  readonly argv: readonly string[];
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Reads a configuration file. */
  readonly readFile: (path: string) => string;
};

const names: ReadonlySet<string> = new Set(flags.map((flag) => flag.name));
const isOwn = (name: string): name is FlagName => names.has(name);
const canonical = (name: string): string => aliases[name] ?? name;

/** Variables that clients and run verbs use; a server started under one of them is no mistake. */
const clientVariables = new Set([
  ...['ENDPOINTS', 'DIRECTORY', 'LOCK', 'TOKEN', 'KEY', 'SESSION', 'TERM', 'JOB_ID'],
  ...['JOB_ATTEMPT', 'JOB_TOKEN', 'QUEUE', 'ELECTION', 'COMMAND', 'LOCK_KEY', 'LOCK_REV'],
  ...['VERSION', 'UNSUPPORTED_ARCH'],
]);

/** Reports a setting of etcd's that means nothing here: a warning, or a refusal. */
function judgeForeign(name: string, value: string, writtenAs: string): string | undefined {
  const refused = refusedFlags.get(name);
  if (refused !== undefined) {
    const harmless =
      refused.harmless.includes(value) || (!refused.takesValue && booleanOf(value) === false);
    if (harmless) return undefined;
    throw new ConfigError(
      name,
      `cannot use ${writtenAs} with ${JSON.stringify(value)}: ${refused.reason}`,
    );
  }
  return `${writtenAs} is ignored: ${foreignFlag(name)?.ignored}`;
}

function unknownFlag(name: string, given: string): ConfigError {
  const suggestion = nearest(name, names);
  const hint = suggestion === undefined ? '' : `: did you mean --${suggestion}?`;
  return new ConfigError(name, `unknown flag ${JSON.stringify(given)}${hint}`);
}

function fromArguments(argv: readonly string[], warnings: string[]): Map<FlagName, Setting> {
  const values = new Map<FlagName, Setting>();
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? '';
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(argument);
    if (match === null) {
      throw new ConfigError('', `unexpected argument ${JSON.stringify(argument)}: flags only`);
    }
    const written = match[1] ?? '';
    const name = canonical(written);
    const foreign = isOwn(name) ? undefined : foreignFlag(name);
    if (!isOwn(name) && foreign === undefined) throw unknownFlag(name, argument);
    const takesValue = isOwn(name) ? !switches.has(name) : foreign?.takesValue;
    let value = match[2];
    if (value === undefined) {
      if (takesValue) {
        index += 1;
        value = argv[index];
        if (value === undefined || value.startsWith('--')) {
          throw new ConfigError(name, `--${written} needs a value: --${written} VALUE`);
        }
      } else {
        value = 'true';
      }
    }
    if (isOwn(name)) {
      values.set(name, { text: value, origin: { setting: name, writtenAs: `--${written}` } });
    } else {
      const warning = judgeForeign(name, value, `--${written}`);
      if (warning !== undefined) warnings.push(warning);
    }
  }
  return values;
}

function fromEnvironment(
  environment: Surroundings['environment'],
  warnings: string[],
): Map<FlagName, Setting> {
  const values = new Map<FlagName, Setting>();
  for (const [variable, value] of Object.entries(environment)) {
    const match = /^(CONCLAVE|ETCD)_(.+)$/.exec(variable);
    if (match === null || value === undefined || value === '') continue;
    const name = canonical((match[2] ?? '').toLowerCase().replaceAll('_', '-'));
    if (isOwn(name)) {
      const earlier = values.get(name);
      if (earlier !== undefined && earlier.text !== value) {
        throw new ConfigError(
          name,
          `${earlier.origin.writtenAs} and ${variable} differ: set one of them`,
        );
      }
      values.set(name, { text: value, origin: { setting: name, writtenAs: variable } });
    } else if (foreignFlag(name) !== undefined) {
      const warning = judgeForeign(name, value, variable);
      if (warning !== undefined) warnings.push(warning);
    } else if (!clientVariables.has(match[2] ?? '')) {
      warnings.push(`${variable} is ignored: no such setting`);
    }
  }
  return values;
}

/** etcd writes durations in its file as whole nanoseconds. */
const nanosecondSettings: ReadonlySet<string> = new Set(['watch-progress-notify-interval']);

function textOf(name: string, value: unknown, writtenAs: string): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return nanosecondSettings.has(name) ? `${value}ns` : `${value}`;
  if (typeof value === 'boolean') return `${value}`;
  if (Array.isArray(value) && value.every((part) => typeof part === 'string')) {
    return value.join(',');
  }
  throw new ConfigError(name, `cannot use ${JSON.stringify(value)} as ${writtenAs}`);
}

const asksForSomething = (block: unknown): boolean =>
  typeof block === 'object' &&
  block !== null &&
  Object.values(block).some((value) => value !== '' && value !== false && value !== null);

function fromFile(
  path: string,
  readFile: Surroundings['readFile'],
  warnings: string[],
): Map<FlagName, Setting> {
  const fail = (problem: string): ConfigError =>
    new ConfigError('config-file', `cannot use the configuration file '${path}': ${problem}`);
  let document: unknown;
  let content: string;
  try {
    content = readFile(path);
  } catch (error) {
    throw fail(error instanceof Error ? error.message : String(error));
  }
  try {
    document = JSON.parse(content);
  } catch {
    throw fail('it must be JSON (YAML is not supported)');
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw fail('it must hold one JSON object');
  }
  const values = new Map<FlagName, Setting>();
  for (const [key, value] of Object.entries(document)) {
    const name = canonical(key);
    const writtenAs = `'${key}' in ${path}`;
    const block = refusedBlocks[name];
    if (block !== undefined) {
      if (asksForSomething(value)) throw new ConfigError(name, `cannot use ${writtenAs}: ${block}`);
    } else if (isOwn(name)) {
      if (value === null) continue;
      values.set(name, {
        text: textOf(name, value, writtenAs),
        origin: { setting: name, writtenAs },
      });
    } else if (foreignFlag(name) !== undefined) {
      const warning = judgeForeign(name, textOf(name, value, writtenAs), writtenAs);
      if (warning !== undefined) warnings.push(warning);
    } else {
      const suggestion = nearest(name, names);
      const hint = suggestion === undefined ? '' : `: did you mean '${suggestion}'?`;
      throw new ConfigError(name, `unknown setting ${writtenAs}${hint}`);
    }
  }
  return values;
}

/** @throws ConfigError */
export function gather(surroundings: Surroundings): Settings {
  const warnings: string[] = [];
  const given = fromArguments(surroundings.argv, warnings);
  const exported = fromEnvironment(surroundings.environment, warnings);
  for (const [name, setting] of exported) {
    const flag = given.get(name);
    if (flag !== undefined) {
      throw new ConfigError(
        name,
        `${flag.origin.writtenAs} and ${setting.origin.writtenAs} are both set: use one of them`,
      );
    }
  }
  const merged = new Map([...exported, ...given]);
  const file = merged.get('config-file');
  if (file === undefined || file.text === '') return { values: merged, warnings };
  if (merged.size > 1) {
    const others = [...merged.values()].filter((setting) => setting !== file);
    warnings.push(
      `${others.map((setting) => setting.origin.writtenAs).join(', ')} ignored: ${file.origin.writtenAs} is set`,
    );
  }
  return { values: fromFile(file.text, surroundings.readFile, warnings), warnings };
}
