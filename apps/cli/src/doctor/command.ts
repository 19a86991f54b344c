import { buildCommand } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { commonFlags, helpText, outputAlias } from '../flags.ts';
import type { DoctorFlags } from './doctor-flags.ts';

export const command = buildCommand<DoctorFlags, [], CliContext>({
  loader: async () => (await import('./doctor.ts')).doctor,
  parameters: {
    flags: {
      ...commonFlags,
      contract: {
        kind: 'boolean',
        default: false,
        withNegated: false,
        brief: 'Check the contract: generated code, packages, messages and services',
      },
      file: {
        kind: 'parsed',
        parse: String,
        optional: true,
        brief: 'A workflow file whose services must answer',
        placeholder: 'FILE',
      },
    },
    aliases: { ...outputAlias, f: 'file' },
  },
  docs: {
    brief: 'Find out what is wrong, and what to do about it',
    fullDescription: helpText(
      'Find out what is wrong here, and say for each problem what to do about it. Changes nothing.',
      ['baton doctor', 'baton doctor --file pipeline.yaml', 'baton doctor --contract -o json'],
      'Ends with 1 when there is a problem.',
    ),
  },
});
