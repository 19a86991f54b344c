import { buildCommand, buildRouteMap } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { commonFlags, connectionFlags, helpText, outputAlias } from '../flags.ts';
import type { GetFlags, PutFlags } from './blob-flags.ts';

const put = buildCommand<PutFlags, [string], CliContext>({
  loader: async () => (await import('./put.ts')).put,
  parameters: {
    flags: {
      ...commonFlags,
      json: { kind: 'boolean', default: false, withNegated: false, brief: 'The file is JSON: tasks get its value' },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'A file, or - for stdin', parse: String, placeholder: 'FILE' }],
    },
  },
  docs: {
    brief: 'Upload a file',
    fullDescription: helpText(
      'Upload a file and print its SHA-256, by which it is known from then on.',
      ['baton blob put model.bin', 'tar c data | baton blob put - -o json'],
      'At most 100 MiB. What nothing refers to is deleted a day after its last use.',
    ),
  },
});

const get = buildCommand<GetFlags, [string], CliContext>({
  loader: async () => (await import('./get.ts')).get,
  parameters: {
    flags: {
      ...connectionFlags,
      output: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'Write it to this file; default stdout',
        placeholder: 'FILE',
      },
    },
    aliases: outputAlias,
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'Of all its bytes, 64 hex digits', parse: sha256Argument, placeholder: 'SHA256' }],
    },
  },
  docs: {
    brief: 'Download a blob',
    fullDescription: helpText(
      'Download a blob and verify it.',
      [`baton blob get 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 -o hello.txt`],
      'The file takes its name when it is whole.',
    ),
  },
});

function sha256Argument(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw usageError(`"${text}" is not a SHA-256: 64 hex digits in lower case`);
  return text;
}

export const command = buildRouteMap<'put' | 'get', CliContext>({
  routes: { put, get },
  docs: { brief: 'Upload and download bytes that are too large for a message' },
});
