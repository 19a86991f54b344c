/** One line of `baton doctor`. */
export interface Finding {
  /** What was looked at; stable, for programs. */
  readonly check: string;
  /** `skipped`: it cannot be told here, and the message says why. */
  readonly level: 'ok' | 'problem' | 'skipped';
  readonly message: string;
  /** For a problem, what to do: a command where there is one. */
  readonly fix?: string;
}

export function ok(check: string, message: string): Finding {
  return { check, level: 'ok', message };
}

export function problem(check: string, message: string, fix: string): Finding {
  return { check, level: 'problem', message, fix };
}

export function skipped(check: string, message: string): Finding {
  return { check, level: 'skipped', message };
}

export function wordsOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
