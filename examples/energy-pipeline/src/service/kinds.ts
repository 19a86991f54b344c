import { analyze } from '../analyzer/step.ts';
import { generate } from '../generator/step.ts';
import { report } from '../report/step.ts';
import type { Step } from '../step.ts';

/** A service by the short name of the command line. */
export interface ServiceKind {
  /** The name in the pipeline's service registry. */
  readonly id: string;
  readonly defaultPort: number;
  readonly step: Step;
}

export const SERVICES = {
  generator: { id: 'energy-generator', defaultPort: 50061, step: generate },
  analyzer: { id: 'energy-analyzer', defaultPort: 50062, step: analyze },
  reporter: { id: 'report-generator', defaultPort: 50063, step: report },
} as const satisfies Record<string, ServiceKind>;

export type ServiceName = keyof typeof SERVICES;
export type ServiceId = (typeof SERVICES)[ServiceName]['id'];
