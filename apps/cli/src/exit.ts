/** What `baton` ends with. */
export const EXIT = {
  ok: 0,
  /** The command, the task or the run failed, or was cancelled. */
  failed: 1,
  /** What was named does not exist. */
  notFound: 3,
  /** Baton could not be reached. */
  unreachable: 5,
  /** The command line, a setting or an argument is wrong. */
  usage: 64,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** Ends the command with a message for people on stderr. `hints` say what to do, one a line. */
export class CliFailure extends Error {
  override readonly name = 'CliFailure';
  readonly exitCode: ExitCode;
  readonly hints: readonly string[];

  constructor(exitCode: ExitCode, message: string, hints: readonly string[] = [], options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
    this.hints = hints;
  }
}

export function usageError(message: string, ...hints: string[]): CliFailure {
  return new CliFailure(EXIT.usage, message, hints);
}
