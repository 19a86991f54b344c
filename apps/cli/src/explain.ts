import type { BatonError } from '@baton/client';
import type { CliConfig } from './config.ts';
import { CliFailure, EXIT, type ExitCode } from './exit.ts';

/** What a command that threw ends with, and what is said about it. */
export interface Explanation {
  readonly exitCode: ExitCode;
  readonly message: string;
  readonly hints: readonly string[];
}

/** Whatever a command threw, for people. `connection` is what it had connected to. */
export function explain(thrown: unknown, connection: CliConfig | undefined): Explanation {
  if (thrown instanceof CliFailure) {
    return { exitCode: thrown.exitCode, message: thrown.message, hints: thrown.hints };
  }
  if (isBatonError(thrown)) return explainBatonError(thrown, connection);
  if (isNamed(thrown, 'TaskFailed', 'TaskCancelled', 'RunFailed', 'RunCancelled')) {
    return { exitCode: EXIT.failed, message: thrown.message, hints: [] };
  }
  // A fault of this program: where it happened is the best that can be said.
  const message = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { exitCode: EXIT.failed, message, hints: [] };
}

function explainBatonError(error: BatonError, connection: CliConfig | undefined): Explanation {
  const violations = violationLines(error);
  switch (error.code) {
    case 'not_found':
      return { exitCode: EXIT.notFound, message: error.message, hints: violations };
    case 'unavailable':
    case 'deadline_exceeded':
      return unreachable(error, connection);
    default: {
      const reason = error.reason === '' ? error.code : error.reason;
      return { exitCode: EXIT.failed, message: `${error.message} (${reason})`, hints: violations };
    }
  }
}

/** Without those that say again what the message says: a refused precondition comes with its message and no subject. */
function violationLines({ message, violations }: BatonError): string[] {
  return violations
    .filter(({ field, description }) => field !== '' || !message.includes(description))
    .map(({ field, description }) => (field === '' ? description : `${field}: ${description}`));
}

function unreachable(error: BatonError, connection: CliConfig | undefined): Explanation {
  const url = connection?.url;
  const where = url === undefined ? 'Baton' : `Baton at ${url.value}${url.from === '' ? '' : ` (from ${url.from})`}`;
  const hints = [
    'start it with `baton up`, or a master alone with `baton master`',
    'if it runs elsewhere, set BATON_URL or pass --url',
  ];
  if (url?.source === 'file') hints.push(`${url.from} was left by a \`baton up\` that may have ended`);
  return { exitCode: EXIT.unreachable, message: `cannot reach ${where}: ${error.message}`, hints };
}

// By name: the classes belong to code that is loaded only by commands that call a server.
function isBatonError(thrown: unknown): thrown is BatonError {
  return isNamed(thrown, 'BatonError');
}

function isNamed(thrown: unknown, ...names: string[]): thrown is Error {
  return thrown instanceof Error && names.includes(thrown.name);
}
