/** The examples of the documentation: compiled against the built package, each run as a process. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { temporaryDirectory } from '../../support/process.ts';
import { projectRoot } from '../../support/servers.ts';

const run = promisify(execFile);

const firstLine = "import { connect } from 'conclave';";
const longestMs = 10_000;

export type Example = {
  /** Where it stands, for people. */
  readonly place: string;
  readonly page: string;
  readonly text: string;
};

/** How execFile tells that a program failed. */
type Failure = Error & {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** Every fenced block of TypeScript that begins with the import of the package. */
export async function findExamples(): Promise<readonly Example[]> {
  const docs = (await readdir(join(projectRoot, 'recipes/docs'))).filter((name) =>
    name.endsWith('.md'),
  );
  const pages = [
    ...['README.md', 'recipes/README.md', 'recipes/cli/README.md', 'sdk/README.md'],
    ...docs.sort().map((name) => `recipes/docs/${name}`),
  ];
  const found = await Promise.all(
    pages.map(async (page) => examplesOf(page, await readFile(join(projectRoot, page), 'utf8'))),
  );
  return found.flat();
}

function examplesOf(page: string, markdown: string): readonly Example[] {
  return [...markdown.matchAll(/^```ts\n(.*?)^```$/gms)].flatMap(({ 1: text = '', index }) => {
    if (!text.startsWith(firstLine)) return [];
    const line = markdown.slice(0, index).split('\n').length;
    return [{ page, place: `${page}:${line}`, text }];
  });
}

/** The examples as programs in a folder of the package, where 'conclave' is the package itself. */
export class CompiledExamples {
  readonly #directory: string;
  readonly #names: ReadonlyMap<Example, string>;
  /** What the compiler complains about. */
  readonly complaints: string;

  private constructor(directory: string, names: ReadonlyMap<Example, string>, complaints: string) {
    this.#directory = directory;
    this.#names = names;
    this.complaints = complaints;
  }

  /** @param directory an empty one inside the package; the caller removes it */
  static async compile(examples: readonly Example[], directory: string): Promise<CompiledExamples> {
    const names = new Map(
      examples.map((example) => [example, example.place.replace(/[^\w]+/g, '-')] as const),
    );
    for (const [example, name] of names)
      await writeFile(join(directory, `${name}.ts`), `${example.text}export {};\n`);
    await writeFile(
      join(directory, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          ...{ target: 'es2023', lib: ['es2023', 'esnext.disposable'], types: ['node'] },
          ...{ module: 'nodenext', moduleResolution: 'nodenext', strict: true, skipLibCheck: true },
        },
        include: ['*.ts'],
      }),
    );
    const compiler = join(projectRoot, 'node_modules/typescript/bin/tsc');
    const complaints = await run(process.execPath, [compiler, '-p', directory]).then(
      () => '',
      (error: { readonly stdout: string }) => error.stdout,
    );
    return new CompiledExamples(directory, names, complaints);
  }

  /** What it printed. @throws when it does not exit with 0 in time */
  async run(example: Example, endpoints: readonly string[]): Promise<string> {
    const file = join(this.#directory, `${this.#names.get(example)}.js`);
    const { stdout } = await run(process.execPath, [file], {
      cwd: temporaryDirectory('example'),
      timeout: longestMs,
      env: { ...process.env, CONCLAVE_ENDPOINTS: endpoints.join(',') },
    }).catch((error: Failure) => {
      throw new Error(
        `${example.place} ended with ${error.signal ?? error.code}:\n${error.stdout}${error.stderr}`,
        { cause: error },
      );
    });
    return stdout;
  }
}

/** A new folder inside the package, among what is built. */
export async function folderInPackage(): Promise<string> {
  const built = join(projectRoot, 'dist');
  await mkdir(built, { recursive: true });
  return mkdtemp(join(built, 'documentation-'));
}
