/** The document of a configuration: from bytes to a value that the schema allows, and back. */
import { type Codec, decodeWith, encodeWith } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { describeIssues, type SchemaResult, type StandardSchema } from './standard-schema.ts';

/** A value, and the document that it was made of. */
export type ReadDocument<Output> = {
  readonly value: Output;
  /** As the codec read it, with whatever the schema does not know. */
  readonly stored: unknown;
};

export class DocumentFormat<Output, Input> {
  readonly #name: string;
  readonly #codec: Codec<Input>;
  readonly #schema: StandardSchema<Input, Output> | undefined;

  constructor(
    name: string,
    codec: Codec<Input>,
    schema: StandardSchema<Input, Output> | undefined,
  ) {
    this.#name = name;
    this.#codec = codec;
    this.#schema = schema;
  }

  /** @throws ConclaveError CODEC when this client does not understand the document */
  async read(bytes: Uint8Array, revision: bigint): Promise<ReadDocument<Output>> {
    const where = `The config '${this.#name}' at revision ${revision}`;
    const stored = decodeWith(this.#codec, bytes, where);
    const result = await this.#validate(stored);
    if (result.issues === undefined) return { value: result.value, stored };
    throw new ConclaveError('CODEC', `${where} is not valid: ${describeIssues(result.issues)}`, {
      cause: result.issues,
      remedy: 'Write a valid one, or roll back; clients keep the last one that was valid.',
    });
  }

  /**
   * The bytes of a value, if others can read it: what counts is what the codec makes of it.
   *
   * @param field what the value is for, for the error
   * @throws ConclaveError INVALID_ARGUMENT when the schema does not allow it, CODEC
   */
  async write(value: Input, field: string): Promise<Buffer> {
    const bytes = encodeWith(this.#codec, value);
    await this.accept(decodeWith(this.#codec, bytes, field), field);
    return bytes;
  }

  /** What the schema makes of a value. @throws ConclaveError INVALID_ARGUMENT */
  async accept(value: Input, field: string): Promise<Output> {
    const result = await this.#validate(value);
    if (result.issues === undefined) return result.value;
    throw invalidArgument(field, value, `valid: ${describeIssues(result.issues)}`);
  }

  async #validate(value: unknown): Promise<SchemaResult<Output>> {
    // Without a schema the type is the caller's word.
    if (this.#schema === undefined) return { value: value as Output };
    try {
      return await this.#schema['~standard'].validate(value);
    } catch (error) {
      if (isConclaveError(error)) throw error;
      const message = error instanceof Error ? error.message : String(error);
      return { issues: [{ message: `the schema threw: ${message}` }] };
    }
  }
}
