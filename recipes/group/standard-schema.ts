/**
 * Schemas of any library that follows Standard Schema (standardschema.dev): only its structure is used,
 * so no library is needed and none is preferred.
 */

/** What a schema says about a value. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export type SchemaIssue = {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
};

/** Version 1 of the interface. */
export type StandardSchema<Input, Output = Input> = {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** For types alone; never there when it runs. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
};

export const isStandardSchema = (given: unknown): given is StandardSchema<unknown> => {
  if ((typeof given !== 'object' && typeof given !== 'function') || given === null) return false;
  const standard: unknown = '~standard' in given ? given['~standard'] : undefined;
  return (
    typeof standard === 'object' &&
    standard !== null &&
    'validate' in standard &&
    typeof standard.validate === 'function'
  );
};

const longestList = 5;

/** The issues as one line: where and what, the first few. */
export function describeIssues(issues: readonly SchemaIssue[]): string {
  const lines = issues.slice(0, longestList).map(({ message, path = [] }) => {
    const where = path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.');
    return where === '' ? message : `${where}: ${message}`;
  });
  const more = issues.length - lines.length;
  return lines.join('; ') + (more > 0 ? `; and ${more} more` : '');
}
