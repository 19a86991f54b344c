import { defaultExclude, defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const inPackages = (...names: string[]) => names.map((name) => `packages/${name}/**/*.test.ts`);

/** Reach nothing of their process (no `node:` import), and their tests need no server. */
const PURE = inPackages('domain', 'expressions', 'contract', 'api', 'client');
/** Leave their process as they found it; what they start are processes of their own. */
const TIDY = [
  ...inPackages('store', 'engine', 'server', 'telemetry', 'testkit'),
  ...['apps', 'examples'].map((directory) => `${directory}/**/*.test.ts`),
  ...['artifacts', 'clients', 'edge', 'faults', 'functions'].map((directory) => `test/${directory}/**/*.test.ts`),
];

/** What takes minutes and is not needed with each change, `npm run test:campaigns`: the tools that measure, a minute of chaos, the packages as users install them. */
const CAMPAIGNS = ['bench', 'chaos', 'packed'].map((directory) => `test/${directory}/**/*.test.ts`);

/** What keeps a core busy from begin to end: installations, dozens of starts, measurements. The rest of test/ waits for leases and for ends. */
const BUSY =
  /^test\/(packed|demo|bench|clients|edge|functions|standalone|postgres-versions|versions|simulation|artifacts)\//;

/**
 * What crosses processes takes longest and begins first, so that the run does not end with one long file and idle cores. Files that are
 * busy and files that mostly wait take turns: the cores do not idle then, and nobody's lease ends because it had no core.
 */
class LongestFirstMixed extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const pathOf = ({ moduleId, project }: TestSpecification) => moduleId.slice(project.config.root.length + 1);
    const busy: TestSpecification[] = [];
    const waiting: TestSpecification[] = [];
    const units: TestSpecification[] = [];
    for (const file of await super.sort(files)) {
      const path = pathOf(file);
      if (!path.startsWith('test/')) units.push(file);
      else if (/^test\/(packed|chaos)\//.test(path)) (BUSY.test(path) ? busy : waiting).unshift(file);
      else (BUSY.test(path) ? busy : waiting).push(file);
    }
    const mixed: TestSpecification[] = [];
    while (busy.length + waiting.length > 0) mixed.push(...waiting.splice(0, 1), ...busy.splice(0, 1));
    return [...mixed, ...units];
  }
}

export default defineConfig({
  test: {
    projects: [
      // One process for many files: starting one and loading what they share costs half a second of CPU.
      { extends: true, test: { name: 'pure', include: PURE, isolate: false } },
      {
        extends: true,
        test: { name: 'tidy', globalSetup: ['test/setup/postgres.ts'], include: TIDY, isolate: false },
      },
      {
        extends: true,
        test: {
          name: 'whole',
          globalSetup: ['test/setup/postgres.ts'],
          include: ['packages', 'test', 'tools'].map((directory) => `${directory}/**/*.test.ts`),
          exclude: [...defaultExclude, ...PURE, ...TIDY, ...CAMPAIGNS],
        },
      },
      {
        extends: true,
        test: { name: 'campaigns', globalSetup: ['test/setup/postgres.ts'], include: CAMPAIGNS },
      },
    ],
    // Processes, not threads: tests send signals, change directories and are killed when they hang.
    pool: 'forks',
    // Most of the time of many goes to waiting for processes and for time: three files at once fill two cores.
    maxWorkers: 3,
    // On a loaded CI machine a test of processes gets one more try; the reporter says which needed it.
    retry: process.env.CI ? 1 : 0,
    // A loaded machine is slow, not wrong: what does not come at all fails a little later.
    expect: { poll: { timeout: 20_000 } },
    testTimeout: 30_000,
    hookTimeout: 60_000,
    sequence: { sequencer: LongestFirstMixed },
  },
});
