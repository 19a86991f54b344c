/**
 * Where kits make their databases: a server of one's own (its user must be allowed to make databases), or the one that `startTestServer`
 * began in a test run's set-up. Undefined: each process starts one.
 */
export function testServerUrl(): string | undefined {
  return process.env.BATON_TEST_DATABASE_URL || undefined;
}
