import type { Command } from 'commander';
import type { Kv } from '../../../../sdk/kv.ts';
import type { Operation } from '../../../../sdk/txn.ts';
import { readStdin } from '../../arguments.ts';
import type { CommonOptions } from '../../connection.ts';
import { exitCodes } from '../../exit-codes.ts';
import { usageError } from '../../failure.ts';
import { type JsonObject, keyValueJson } from '../../output/json.ts';
import { Output, type View } from '../../output/output.ts';
import { field } from '../../output/table.ts';
import { asVerb } from '../../verb.ts';
import { withClient } from '../../with-client.ts';
import { parseTxnDocument } from './txn-document.ts';
import type { TxnParts } from './txn-parts.ts';
import { parseTxnScript } from './txn-script.ts';

const view: View = {
  columns: [
    field('SUCCEEDED', 'succeeded'),
    field('REVISION', 'revision'),
    field('RESPONSES', 'responses'),
  ],
};

type Committed = Awaited<ReturnType<typeof commit>>;

const commit = (kv: Kv, parts: TxnParts) =>
  kv
    .txn()
    .if(...parts.compares)
    .then(...parts.onSuccess)
    .else(...parts.onFailure)
    .commit();

/** Each answer under the name of its operation, in the shape that the verb of that name prints. */
function responseJson(
  operation: Operation | undefined,
  response: Committed['responses'][number],
): JsonObject {
  if (typeof response === 'bigint') return { get: { count: `${response}` } };
  if (response === null || operation === undefined) return { get: null };
  if ('deleted' in response) {
    return {
      delete: {
        deleted: `${response.deleted}`,
        revision: `${response.revision}`,
        previous: response.previous.map(keyValueJson),
      },
    };
  }
  if ('count' in response) {
    return {
      get: {
        kvs: response.kvs.map(keyValueJson),
        count: `${response.count}`,
        more: response.more,
        revision: `${response.revision}`,
      },
    };
  }
  if ('revision' in response && operation.kind === 'put') {
    const { previous } = response as { previous?: Parameters<typeof keyValueJson>[0] };
    return {
      put: {
        revision: `${response.revision}`,
        previous: previous === undefined ? null : keyValueJson(previous),
      },
    };
  }
  throw new TypeError(`no form for the answer of ${operation.kind}`);
}

async function txn(options: CommonOptions): Promise<void> {
  const output = new Output(options.output);
  const text = (await readStdin()).toString('utf8');
  if (text.trim() === '') throw usageError('the transaction is read from stdin, which is empty');
  const parts = /^\s*\{/.test(text) ? parseTxnDocument(text) : parseTxnScript(text);
  await withClient(options, async ({ kv }) => {
    const result = await commit(kv, parts);
    const operations = result.succeeded ? parts.onSuccess : parts.onFailure;
    await output.printOne(
      {
        succeeded: result.succeeded,
        revision: `${result.revision}`,
        responses: result.responses.map((response, index) =>
          responseJson(operations[index], response),
        ),
      },
      view,
    );
    if (!result.succeeded) process.exitCode = exitCodes.notFound;
  });
}

export function define(command: Command): void {
  asVerb(command, [
    [
      `printf 'mod("n") = "17"\\n\\nput n 18\\n\\nget n\\n' | conclave kv txn -o json`,
      'if n was last written at revision 17, put, else get; exit code 3 when the condition is false',
    ],
    [
      `echo '{"if":[{"key":"n","target":"version","operator":"==","operand":0}],"then":[{"put":{"key":"n","value":"1"}}]}' | conclave kv txn`,
      'the same kind of thing as JSON: create n if it does not exist',
    ],
  ])
    .addHelpText(
      'after',
      `
The transaction is read from stdin, in the language of etcdctl or as JSON.
Conditions: create|mod|version|value|lease("KEY") =|!=|<|> "VALUE", one a line, then an empty line.
Operations: put KEY VALUE, get KEY [END], del KEY [END] with etcdctl's flags; those for success, an
empty line, those for failure.`,
    )
    .action(txn);
}
