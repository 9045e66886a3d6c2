/** A configuration that many change and some spoil: every client keeps the last good one. */
import type { Config } from '../../../../recipes/group/config.ts';
import type { ConfigVersion } from '../../../../recipes/group/config-state.ts';
import type { StandardSchema } from '../../../../recipes/group/standard-schema.ts';
import { configPrefix } from '../../../../recipes/names.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isConclaveError } from '../../../../sdk/errors.ts';
import { type Content, checkValue, type ValueChange } from '../../../lin/recipes-values.ts';
import type { Commit } from '../../../lin/store.ts';
import { hold } from '../../engine/violation.ts';
import type { CommitLog } from '../commit-log.ts';
import { ignoreRefusal, inSessions } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

const NAME = 'settings';
const KEY = `${configPrefix(NAME)}current`;

const isContent = (value: unknown): value is Content =>
  typeof value === 'object' && value !== null && 'changes' in value && 'by' in value;

const schema: StandardSchema<Content> = {
  '~standard': {
    version: 1,
    vendor: 'simulation',
    validate: async (value) =>
      isContent(value) ? { value } : { issues: [{ message: 'no content' }] },
  },
};

export class ConfigWorkload implements Workload {
  readonly #changes: ValueChange[] = [];
  readonly #shown: ConfigVersion<Content>[] = [];

  async run(client: ClientContext): Promise<void> {
    await inSessions(client, async (session) => {
      const config = await session.config<Content>(NAME, {
        schema,
        default: { changes: 0, by: 'nobody' },
        recheck: 2_000,
        signal: client.ending,
      });
      let before = -1n;
      config.changes$.subscribe((version) => {
        const { revision } = version;
        // Only the default comes back: when there is none.
        const isNews = revision > before || revision === 0n;
        hold(isNews, 53, () => `${client.name} is shown ${revision} after ${before}`);
        if (revision > 0n) before = revision;
        this.#shown.push(version);
      });
      while (!client.isEnding() && session.state !== 'lost') {
        await this.#turn(client, session, config).catch(ignoreRefusal);
        await client.pause(client.knobs.meanPauseMs);
      }
    });
  }

  check(log: CommitLog): void {
    const commits = log.commits.map(withoutSpoiled);
    const [wrong] = checkValue(commits, KEY, this.#changes);
    hold(wrong === undefined, 53, () => `${wrong}`);
    for (const { value, revision } of this.#shown) {
      const written = commits[Number(revision) - 2]?.changes.find(({ key }) => key === KEY);
      const { by = 'nobody' } = JSON.parse(written?.entry?.value ?? '{}') as Partial<Content>;
      hold(by === value.by, 53, () => `${value.by} is shown of ${revision}, where ${by} is`);
    }
  }

  async #turn(
    { choose }: ClientContext,
    session: RecipeSession,
    config: Config<Content>,
  ): Promise<void> {
    switch (choose.below(10)) {
      case 0:
        await session.client.kv.delete(KEY);
        return;
      case 1:
        await session.client.kv.put(KEY, '{ "spoiled": true }');
        return;
      case 2:
        if (config.status.state === 'invalid') await session.client.kv.delete(KEY);
        return;
      default:
        await this.#change((by) => config.update(({ changes }) => ({ changes: changes + 1, by })));
    }
  }

  async #change(change: (by: string) => Promise<ConfigVersion<Content>>): Promise<void> {
    const at = this.#changes.length;
    const by = `change ${at}`;
    this.#changes.push({ by, outcome: { kind: 'unknown', reason: 'still under way' } });
    const end = (outcome: ValueChange['outcome']) => {
      this.#changes[at] = { by, outcome };
    };
    try {
      const { revision } = await change(by);
      end({ kind: 'ok', answer: { revision: Number(revision) } });
    } catch (error) {
      if (isConclaveError(error) && error.outcome === 'not-applied') {
        end({ kind: 'fail', reason: error.message });
      }
      throw error;
    }
  }
}

/** Whoever changes what was spoiled does not build on it: that counts as nothing there. */
function withoutSpoiled({ revision, changes }: Commit): Commit {
  return {
    revision,
    changes: changes.map((change) => {
      const { key, entry } = change;
      if (key !== KEY || entry === undefined || isContent(JSON.parse(entry.value))) return change;
      return { type: 'delete', key, entry: undefined };
    }),
  };
}
