import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    globalSetup: ['test/setup/postgres.ts'],
    include: ['packages', 'apps', 'examples', 'test', 'tools'].map((directory) => `${directory}/**/*.test.ts`),
    // Processes, not threads: tests send signals, change directories and are killed when they hang.
    pool: 'forks',
    // Most of the time goes to waiting for processes, so two files at once fill two cores better than one.
    maxWorkers: 2,
    // On a loaded CI machine a test of processes gets one more try; the reporter says which needed it.
    retry: process.env.CI ? 1 : 0,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
