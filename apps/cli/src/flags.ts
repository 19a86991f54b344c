import type { FlagParametersForType } from '@stricli/core';
import type { CliContext, ConnectionFlags } from './context.ts';
import { usageError } from './exit.ts';

/** How a command prints its data. */
export type OutputFormat = 'table' | 'json';

export interface OutputFlags {
  readonly output: OutputFormat;
}

/** The flags of most commands: a connection and an output format. Spread into `parameters.flags`. */
export type CommonFlags = ConnectionFlags & OutputFlags;

export const outputFlags: FlagParametersForType<OutputFlags, CliContext> = {
  output: { kind: 'enum', values: ['table', 'json'], default: 'table', brief: 'How to print the data' },
};

export const connectionFlags: FlagParametersForType<ConnectionFlags, CliContext> = {
  url: { kind: 'parsed', parse: String, optional: true, brief: 'Where Baton is', placeholder: 'URL' },
  namespace: { kind: 'parsed', parse: String, optional: true, brief: 'The namespace', placeholder: 'NAME' },
};

export const commonFlags: FlagParametersForType<CommonFlags, CliContext> = { ...connectionFlags, ...outputFlags };

/** `-o` everywhere. */
export const outputAlias = { o: 'output' } as const;

/** The long help of a command: what it does beyond its brief, and examples to type. */
export function helpText(brief: string, examples: readonly string[], details = ''): string {
  const text = details === '' ? brief : `${brief}\n\n${details}`;
  return `${text}\n\nEXAMPLES\n${examples.map((example) => `  ${example}`).join('\n')}`;
}

/** Parses a whole number within bounds. What it throws is a usage error. */
export function wholeNumber(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?[0-9]+$/.test(text) || value < minimum || value > maximum) {
      throw usageError(`"${text}" is not a whole number from ${minimum} to ${maximum}`);
    }
    return value;
  };
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Parses `500ms`, `30s`, `5m`, `2h` or `1d` into milliseconds. */
export function durationMs(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$/.exec(text);
  if (match === null) throw usageError(`"${text}" is not a duration such as 500ms, 30s, 5m, 2h or 1d`);
  return Math.round(Number(match[1]) * DURATION_UNITS_MS[match[2]!]!);
}

/** Ids are decimal strings made by a master; anything else need not be asked for. */
export function idArgument(text: string): string {
  if (!/^[1-9][0-9]{0,18}$/.test(text)) throw usageError(`"${text}" is not an id; ids are numbers such as 42`);
  return text;
}
