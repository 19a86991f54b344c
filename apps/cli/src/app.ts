import { buildApplication, ExitCode, run, text_en } from '@stricli/core';
import { type CliContext, type ContextOptions, createContext } from './context.ts';
import { EXIT } from './exit.ts';
import { type Explanation, explain } from './explain.ts';
import { root } from './root.ts';
import { cleanLine } from './terminal/clean.ts';

/** Runs one command line and gives the exit code. Everything it says goes to the context's streams. */
export async function runCli(args: readonly string[], options: ContextOptions): Promise<number> {
  const startedAt = performance.now();
  const context = createContext(options);
  let command: string | undefined;
  let failure: Explanation | undefined;
  const app = buildApplication<CliContext>(root, {
    name: 'baton',
    versionInfo: { getCurrentVersion: async () => (await import('./version/version.ts')).versionText() },
    scanner: { caseStyle: 'allow-kebab-for-camel', allowArgumentEscapeSequence: true },
    documentation: { caseStyle: 'convert-camel-to-kebab', disableAnsiColor: (options.env.NO_COLOR ?? '') !== '' },
    localization: {
      text: {
        ...text_en,
        // What was typed is shown again, so it is cleaned; a failure of a command is said below, with its hints.
        noCommandRegisteredForInput: (given) => cleanLine(text_en.noCommandRegisteredForInput(given)),
        exceptionWhileParsingArguments: (thrown, color) => {
          return cleanLine(text_en.exceptionWhileParsingArguments.call({ formatException }, thrown, color));
        },
        exceptionWhileRunningCommand: (thrown) => {
          failure = explain(thrown, context.connection);
          return cleanLine(failure.message.split('\n', 1)[0]!);
        },
      },
    },
    determineExitCode: (thrown) => explain(thrown, context.connection).exitCode,
  });
  const process: CliContext['process'] = context.process;
  await run(app, args, {
    process,
    forCommand: ({ prefix }) => {
      command = prefix.slice(1).join(' ');
      return context;
    },
  });
  const exitCode = exitCodeOf(Number(process.exitCode ?? 0));
  if (failure !== undefined) {
    for (const line of failure.message.split('\n').slice(1)) context.screen.note({ text: line, style: 'dim' });
    for (const hint of failure.hints) context.screen.note({ text: `  ${hint}`, style: 'dim' });
  }
  if (command !== undefined && (context.recorded !== undefined || (failure && exitCode !== EXIT.usage))) {
    await writeLog(context, { command, exitCode, failure, durationMs: Math.round(performance.now() - startedAt) });
  }
  return exitCode;
}

function formatException(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Stricli's own codes are negative: a wrong command line is 64, a fault of this program 1. */
function exitCodeOf(code: number): number {
  if (code >= 0) return code;
  return code === ExitCode.UnknownCommand || code === ExitCode.InvalidArgument ? EXIT.usage : EXIT.failed;
}

interface CommandEnd {
  readonly command: string;
  readonly exitCode: number;
  readonly failure: Explanation | undefined;
  readonly durationMs: number;
}

/** One line in `LOG_DIR` for a command that changed something or failed. That it cannot be written fails no command. */
async function writeLog(context: CliContext, { command, exitCode, failure, durationMs }: CommandEnd): Promise<void> {
  try {
    const { createLogger } = await import('@baton/telemetry');
    const { logDir, logLevel } = context.config;
    const logger = createLogger({ name: 'cli', logDir: logDir.value, level: logLevel.value, people: null });
    const fields = {
      ...context.recorded,
      command,
      exit_code: exitCode,
      duration_ms: durationMs,
      url: context.connection?.url.value,
      namespace: context.connection?.namespace.value,
    };
    if (failure === undefined) logger.info('command ended', fields);
    else logger.error('command failed', { ...fields, reason: failure.message });
    await logger.flush();
  } catch (thrown) {
    context.screen.note({ text: `the log could not be written: ${formatException(thrown)}`, style: 'dim' });
  }
}
