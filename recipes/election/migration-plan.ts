/** A list of migrations as its author gives it, checked before anything is done with it. */
import { invalidArgument } from '../../sdk/errors.ts';
import { checkBoolean, checkOptions } from '../common/option-checks.ts';
import { escapeName } from '../names.ts';
import { migrationsMax, type Planned } from './migration-record.ts';
import type { Migration } from './migration-run.ts';

type FieldsOf<Kind> = Kind extends unknown ? keyof Kind : never;

const knownFields: Readonly<Record<FieldsOf<Migration>, true>> = {
  id: true,
  version: true,
  writes: true,
  run: true,
  idempotent: true,
};

/** @throws ConclaveError INVALID_ARGUMENT */
export function planOf(list: readonly Migration[]): readonly Planned[] {
  if (!Array.isArray(list) || list.length > migrationsMax) {
    throw invalidArgument('migrations', list, `a list of at most ${migrationsMax} migrations`);
  }
  const ids = new Set<string>();
  return list.map((migration: Migration, place) => {
    const field = `migrations[${place}]`;
    checkOptions<Record<string, unknown>>(migration, knownFields, field);
    const { id, version = '1' } = migration;
    escapeName(id, `${field}.id`);
    if (ids.has(id)) throw invalidArgument(`${field}.id`, id, 'another than the ones before it');
    ids.add(id);
    if (typeof version !== 'string') {
      throw invalidArgument(`${field}.version`, version, 'a text');
    }
    if ('idempotent' in migration) checkBoolean(migration.idempotent, `${field}.idempotent`);
    const functions = [
      'writes' in migration && migration.writes,
      'run' in migration && migration.run,
    ].filter(Boolean);
    if (functions.length !== 1 || typeof functions[0] !== 'function') {
      throw invalidArgument(
        field,
        migration,
        "an object with either 'run' or 'writes', a function",
      );
    }
    return { id, version };
  });
}
