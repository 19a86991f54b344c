import { defaultExclude, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** What crosses processes takes longest and begins first, so that the run does not end with one long file and an idle core. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const weight = ({ moduleId, project }: TestSpecification) => {
      const path = moduleId.slice(project.config.root.length + 1);
      return /^test\/(packed|chaos)\//.test(path)
        ? 0
        : path.startsWith('test/')
          ? 1
          : path.startsWith('packages/store/')
            ? 2
            : 3;
    };
    return (await super.sort(files)).sort((a, b) => weight(a) - weight(b));
  }
}

/** Packages that reach nothing of their process (no `node:` import), and whose tests need no server. */
const PURE = ['domain', 'expressions', 'contract', 'api', 'client'].map((name) => `packages/${name}/**/*.test.ts`);

export default defineConfig({
  test: {
    projects: [
      // One process for many files: starting one costs 0.3 s of CPU.
      { extends: true, test: { name: 'pure', include: PURE, isolate: false } },
      {
        extends: true,
        test: {
          name: 'whole',
          globalSetup: ['test/setup/postgres.ts'],
          include: ['packages', 'apps', 'examples', 'test', 'tools'].map((directory) => `${directory}/**/*.test.ts`),
          exclude: [...defaultExclude, ...PURE],
        },
      },
    ],
    // Processes, not threads: tests send signals, change directories and are killed when they hang.
    pool: 'forks',
    // Most of the time goes to waiting for processes, so two files at once fill two cores better than one.
    maxWorkers: 2,
    // On a loaded CI machine a test of processes gets one more try; the reporter says which needed it.
    retry: process.env.CI ? 1 : 0,
    // A loaded machine is slow, not wrong: what does not come at all fails a little later.
    expect: { poll: { timeout: 20_000 } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirst },
  },
});
