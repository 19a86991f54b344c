import type { Vocabulary } from './inspect.ts';

/** What a selector may name. */
export const SELECTOR_VOCABULARY: Vocabulary = {
  worker: [
    'name',
    'os',
    'arch',
    'hostname',
    'cpus',
    'memory_gib',
    'slots',
    'tags',
    'tools',
    'task_classes',
    'kinds',
    'queues',
    'gpus',
  ],
  gpu: ['uuid', 'model', 'memory_gib', 'simulated', 'mig'],
};
