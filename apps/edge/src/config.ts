/** What the edge is told by its surroundings: the environment under Deno, bindings under workerd. */
export interface EdgeConfig {
  /** DATABASE_URL: of a database that a master has migrated. */
  readonly databaseUrl: string;
  /** BATON_DATABASE_POOLED=1: the URL leads to a transaction pooler. */
  readonly pooled: boolean;
  /** BATON_STREAM_MS: how long a stream lasts at most. Default 30000. */
  readonly streamMs: number;
  /** BATON_PORT, where the entry point listens itself. 0: any free one. Default 7802. */
  readonly port: number;
}

/** All that is wrong with the surroundings, at once. */
export class EdgeConfigError extends Error {
  override readonly name = 'EdgeConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** @throws EdgeConfigError */
export function readConfig(env: Readonly<Record<string, unknown>>): EdgeConfig {
  const problems: string[] = [];
  const databaseUrl = String(env.DATABASE_URL ?? '');
  if (databaseUrl === '') problems.push('DATABASE_URL: set it to the URL of the database that your masters use');
  else if (!/^postgres(ql)?:\/\/./.test(databaseUrl))
    problems.push('DATABASE_URL: must begin with postgres:// or postgresql://');
  const pooled = String(env.BATON_DATABASE_POOLED ?? '');
  if (!['', '0', '1'].includes(pooled)) problems.push(`BATON_DATABASE_POOLED=${pooled}: must be 0 or 1`);
  const whole = (name: string, fallback: number, least: number, most: number): number => {
    const text = String(env[name] || fallback);
    const value = Number(text);
    if (!/^\d{1,9}$/.test(text) || value < least || value > most)
      problems.push(`${name}=${text}: must be a whole number from ${least} to ${most}`);
    return value;
  };
  const streamMs = whole('BATON_STREAM_MS', 30_000, 1_000, 3_600_000);
  const port = whole('BATON_PORT', 7802, 0, 65_535);
  if (problems.length > 0) throw new EdgeConfigError(problems);
  return Object.freeze({ databaseUrl, pooled: pooled === '1', streamMs, port });
}
