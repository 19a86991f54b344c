import {
  DEFAULT_CPUS,
  DEFAULT_MEMORY_BYTES,
  DEFAULT_NODE_QUEUE,
  DEFAULT_NODE_TASK_CLASS,
  EDGE_TYPES,
  JOIN_RULES,
  MAX_ARTIFACTS,
  MAX_CACHE_SECONDS,
  MAX_CPUS,
  MAX_DEFINITION_NODES,
  MAX_EXPRESSION_LENGTH,
  MAX_FOR_EACH_ITEMS,
  MAX_GPU_MEMORY_BYTES,
  MAX_GPUS,
  MAX_LABEL_LENGTH,
  MAX_MEMORY_BYTES,
  MAX_NAME_LENGTH,
  MAX_NODE_LABELS,
  MAX_NODE_TAGS,
  MAX_REQUIRED_OS,
  MAX_REQUIRED_TOOLS,
  MAX_TIMEOUT_SECONDS,
  NODE_TYPES,
  PROGRAM_EXECUTORS,
  PROGRAM_SETTINGS,
  type ProgramExecutorType,
  type Setting,
  TASK_CLASSES,
} from '@baton/domain';

type Schema = Readonly<Record<string, unknown>>;

const ref = (name: string): Schema => ({ $ref: `#/$defs/${name}` });

/** An object of these fields and no others. */
function object(
  properties: Readonly<Record<string, Schema>>,
  required: readonly string[] = [],
  more: Schema = {},
): Schema {
  return {
    type: 'object',
    properties,
    ...(required.length > 0 && { required }),
    additionalProperties: false,
    ...more,
  };
}

const name = (description: string): Schema => ({ ...ref('name'), description });
const seconds = (description: string, more: Schema = {}): Schema => ({
  type: 'number',
  exclusiveMinimum: 0,
  maximum: MAX_TIMEOUT_SECONDS,
  description,
  ...more,
});
const anyOfThese = (values: readonly string[], description: string, more: Schema = {}): Schema => ({
  enum: values,
  description,
  ...more,
});

const texts: Schema = { type: 'object', additionalProperties: { type: 'string' } };
const words: Schema = { type: 'array', items: { type: 'string' } };

const environment: Schema = object(
  {
    pass: { ...words, description: 'Names of variables of the worker that are handed on, where it allows them.' },
    set: { ...texts, description: 'Variables by name; no place for secrets.' },
    working_directory: { type: 'string', pattern: '^/', description: 'On the worker.' },
  },
  [],
  { description: 'What its tasks find around them.' },
);

function schemaOf({ is, bounds, required, about: description }: Setting): Schema {
  const range = { minimum: bounds?.min, maximum: bounds?.max };
  switch (is) {
    case 'text':
      return { type: 'string', minLength: 1, description };
    case 'flag':
      return { type: 'boolean', description };
    case 'words':
      return { ...words, ...(required && { minItems: 1 }), description };
    case 'map':
      return { ...texts, description };
    case 'codes':
      return { type: 'array', items: { type: 'integer', ...range }, description };
    case 'mounts': {
      const path = { type: 'string', minLength: 1 };
      const target = { type: 'string', pattern: '^/' };
      const mount = object({ source: path, target, read_only: { type: 'boolean' } }, ['source', 'target']);
      return { type: 'array', items: mount, description };
    }
    case 'whole':
      return { type: 'integer', ...range, description };
    case 'seconds':
    case 'number':
      return { type: 'number', ...range, description };
    default:
      return { enum: is, description };
  }
}

function program(type: ProgramExecutorType, description: string): Schema {
  const settings = Object.entries(PROGRAM_SETTINGS[type]);
  return object(
    Object.fromEntries(settings.map(([field, setting]) => [field, schemaOf(setting)])),
    settings.filter(([, { required }]) => required).map(([field]) => field),
    { description },
  );
}

const policy: Record<string, Schema> = {
  queue: { ...name('The queue that its tasks wait in.'), default: DEFAULT_NODE_QUEUE },
  task_class: anyOfThese(TASK_CLASSES, 'The kind of machine that it needs.', { default: DEFAULT_NODE_TASK_CLASS }),
  tags: {
    type: 'array',
    items: ref('name'),
    uniqueItems: true,
    maxItems: MAX_NODE_TAGS,
    description: 'Tags that a worker must all have.',
  },
  retry: object(
    {
      max_attempts: { type: 'integer', minimum: 1, maximum: 1_000, default: 4 },
      initial_delay_seconds: { type: 'number', minimum: 0, maximum: MAX_TIMEOUT_SECONDS, default: 5 },
      factor: { type: 'number', minimum: 1, maximum: 100, default: 2 },
      max_delay_seconds: { type: 'number', minimum: 0, maximum: MAX_TIMEOUT_SECONDS, default: 3_600 },
      jitter: { type: 'number', minimum: 0, maximum: 1, default: 0 },
    },
    [],
    { description: 'What is tried again, and when; completed field by field from "defaults".' },
  ),
  timeout_seconds: seconds('From the start of an attempt to its end.', { default: 3_600 }),
  schedule_to_start_seconds: seconds('How long a task may wait for its first start. Default: for ever.'),
  progress_timeout_seconds: seconds('How long an attempt may go without progress. Default: for ever.'),
  priority: { type: 'integer', minimum: -1_000, maximum: 1_000, default: 0, description: 'Higher goes first.' },
  environment,
  resources: object(
    {
      cpus: {
        type: 'number',
        minimum: 0,
        maximum: MAX_CPUS,
        default: DEFAULT_CPUS,
        description: 'Cores; parts are fine.',
      },
      memory_gib: {
        type: 'number',
        minimum: 0,
        maximum: MAX_MEMORY_BYTES / 2 ** 30,
        default: DEFAULT_MEMORY_BYTES / 2 ** 30,
      },
      memory_bytes: { type: 'integer', minimum: 0, maximum: MAX_MEMORY_BYTES },
      gpus: { type: 'integer', minimum: 0, maximum: MAX_GPUS, description: 'Whole devices of one worker.' },
      gpu_memory_gib: {
        type: 'number',
        minimum: 0,
        maximum: MAX_GPU_MEMORY_BYTES / 2 ** 30,
        description: 'Of each device.',
      },
      gpu_memory_bytes: { type: 'integer', minimum: 0, maximum: MAX_GPU_MEMORY_BYTES },
      gpu_model: name('Words of the model of the devices, in any case.'),
    },
    [],
    { description: 'What each of its tasks has for itself. Default: a slot; of class gpu a device.' },
  ),
  requires: object(
    {
      os: { type: 'array', items: ref('name'), maxItems: MAX_REQUIRED_OS, description: 'Any of these systems.' },
      tools: {
        type: 'array',
        items: ref('name'),
        maxItems: MAX_REQUIRED_TOOLS,
        description: 'All of these tools: ffmpeg>=5.',
      },
      selector: { type: 'string', minLength: 1, description: 'CEL over worker and gpu that must be true.' },
    },
    [],
    { description: 'What a worker must be, beside class and tags.' },
  ),
};

const step: Schema = { anyOf: [{ type: 'string' }, { type: 'integer', minimum: 0 }] };
const path: Schema = { type: 'array', items: step, description: 'Keys of objects and positions in lists.' };

const reference: Schema = {
  description: 'A value that is known only later.',
  oneOf: [
    object({ $from: { type: 'string', description: 'A node that runs before; its output.' }, path }, ['$from']),
    object({ $input: { ...path, description: 'A part of the input of the run; [] is all of it.' } }, ['$input']),
    object({ $expr: ref('expression') }, ['$expr']),
  ],
};

/** JSON in which references may stand; an object with a mark of a reference is one. */
const template: Schema = {
  description: 'JSON. { "$from": … }, { "$input": … } and { "$expr": … } in it are filled in when the node starts.',
  if: {
    type: 'object',
    anyOf: [{ required: ['$from'] }, { required: ['$input'] }, { required: ['$expr'] }],
  },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: ref('reference'),
  else: {
    if: { type: 'object' },
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: { additionalProperties: ref('template') },
    else: {
      if: { type: 'array' },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
      then: { items: ref('template') },
    },
  },
};

const list: Schema = {
  description: 'A list, or a reference to one.',
  anyOf: [{ type: 'array', items: ref('template'), maxItems: MAX_FOR_EACH_ITEMS }, ref('reference')],
};

const maxParallel: Schema = {
  type: 'integer',
  minimum: 1,
  maximum: MAX_FOR_EACH_ITEMS,
  description: 'How many at once. Default: as many as there are workers for.',
};

const address: Schema = { type: 'string', minLength: 1, description: 'host:port', examples: ['127.0.0.1:50051'] };

const nodeFields: Record<string, Schema> = {
  id: name('The id; in an object of nodes it may repeat the key.'),
  needs: {
    type: 'array',
    description: 'The nodes that must have ended before.',
    items: {
      anyOf: [
        ref('name'),
        object({ node: ref('name'), type: anyOfThese(EDGE_TYPES, 'A label.', { default: 'data' }) }, ['node']),
      ],
    },
  },
  task: name('The kind of a function task.'),
  grpc: object(
    {
      service: { type: 'string', minLength: 1, description: 'A name in "services".' },
      address,
      method: name('"Service/Method" or "package.Service/Method".'),
    },
    ['method'],
    { oneOf: [{ required: ['service'] }, { required: ['address'] }], description: 'A unary call.' },
  ),
  process: program('process', 'A program that the worker starts.'),
  http: program('http', 'A request to a function behind a URL.'),
  container: program('container', 'A container that the worker makes.'),
  workflow: name('Another workflow; a run of it is the node, its output the node’s.'),
  version: { type: 'integer', minimum: 1, description: 'Of "workflow". Default: the newest when the node starts.' },
  input: { ...ref('template'), default: {} },
  when: { ...ref('expression'), description: 'Must be true when the node could start; else it is skipped.' },
  for_each: {
    description: 'A task for each item; the output is the list of theirs, in order. "item" and "index" in expressions.',
    anyOf: [ref('list'), object({ items: ref('list'), max_parallel: maxParallel }, ['items'])],
  },
  matrix: {
    description: 'A task for each combination of these lists. "matrix" and "index" in expressions.',
    anyOf: [
      object(
        {
          axes: { type: 'object', minProperties: 1, additionalProperties: ref('list'), not: ref('reference') },
          max_parallel: maxParallel,
        },
        ['axes'],
      ),
      { type: 'object', minProperties: 1, additionalProperties: ref('list') },
    ],
  },
  join: anyOfThese(JOIN_RULES, 'When it starts: all needs succeeded; all ended and one succeeded; all ended.', {
    default: 'all',
  }),
  on_failure: anyOfThese(['stop', 'continue'], 'What its failure does to the run.', { default: 'stop' }),
  type: anyOfThese(NODE_TYPES, 'A label that says what it is for.'),
  labels: {
    type: 'object',
    maxProperties: MAX_NODE_LABELS,
    propertyNames: ref('name'),
    additionalProperties: { type: 'string', maxLength: MAX_LABEL_LENGTH },
  },
  cache: object(
    {
      ttl_seconds: { type: 'number', exclusiveMinimum: 0, maximum: MAX_CACHE_SECONDS },
      key: { ...ref('template'), description: 'What makes two results the same. Default: the whole input.' },
    },
    ['ttl_seconds'],
    { description: 'For how long a result is used again, in the namespace and for the kind.' },
  ),
  artifacts: {
    type: 'object',
    maxProperties: MAX_ARTIFACTS,
    description: 'Files that its tasks are handed, by name.',
    additionalProperties: {
      anyOf: [
        object(
          {
            $from: { type: 'string', description: 'A node that runs before.' },
            artifact: {
              type: 'string',
              minLength: 1,
              maxLength: 200,
              description: 'The name of a file that it produces.',
            },
            item: { ...ref('template'), description: 'The number of an item, of a node that runs once for each.' },
          },
          ['$from', 'artifact'],
        ),
        ref('reference'),
        { type: 'object', required: ['__baton', 'sha256'], description: 'What a task has returned of an artifact.' },
      ],
    },
  },
  ...policy,
};

const node = object(nodeFields, [], {
  oneOf: ['task', 'grpc', ...PROGRAM_EXECUTORS, 'workflow'].map((executor) => ({ required: [executor] })),
  not: { required: ['for_each', 'matrix'] },
  dependentRequired: { version: ['workflow'] },
});

const nodesForm = object(
  {
    $schema: { type: 'string', description: 'For editors.' },
    name: name('The name under which it is stored.'),
    description: { type: 'string', minLength: 1 },
    defaults: object(policy, [], { description: 'Policy fields for all nodes.' }),
    services: {
      type: 'object',
      propertyNames: ref('name'),
      additionalProperties: address,
      description: 'host:port by name.',
    },
    output: {
      ...ref('template'),
      description: 'The output of the run. Default: of the nodes that nothing needs, by id.',
    },
    nodes: {
      description: 'By id, or a list of nodes with an id.',
      anyOf: [
        {
          type: 'object',
          minProperties: 1,
          maxProperties: MAX_DEFINITION_NODES,
          propertyNames: ref('name'),
          additionalProperties: ref('node'),
        },
        {
          type: 'array',
          minItems: 1,
          maxItems: MAX_DEFINITION_NODES,
          items: { allOf: [ref('node'), { required: ['id'] }] },
        },
      ],
    },
  },
  ['name', 'nodes'],
  { title: 'Nodes with needs' },
);

const container = object(
  {
    id: name('The key again.'),
    input_file: { type: 'string', minLength: 1 },
    output_file: { type: 'string', minLength: 1 },
    next_node: { anyOf: [ref('name'), { type: 'null' }], description: 'The container that follows, null at the end.' },
    timeout_seconds: seconds('Of one attempt.'),
  },
  ['id', 'input_file', 'output_file', 'next_node', 'timeout_seconds'],
);

const chainForm = object(
  {
    workflow_name: name('The name under which it is stored.'),
    start_node: name('The container that runs first.'),
    execution_mode: { const: 'grpc' },
    service_registry: { type: 'object', additionalProperties: address, description: 'host:port by container.' },
    containers: {
      type: 'object',
      minProperties: 1,
      maxProperties: MAX_DEFINITION_NODES,
      additionalProperties: container,
    },
  },
  ['workflow_name', 'start_node', 'execution_mode', 'service_registry', 'containers'],
  { title: 'A chain' },
);

/**
 * The JSON Schema (draft 2020-12) of workflow files, both forms, for editors. It accepts every sound file, and refuses
 * what can be told field by field; what it cannot tell (cycles, names of nodes, what expressions mean) `checkWorkflow`
 * does.
 */
export const workflowSchema: Schema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  title: 'A workflow of Baton',
  type: 'object',
  if: { anyOf: [{ required: ['containers'] }, { required: ['workflow_name'] }] },
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: ref('chain_form'),
  else: ref('nodes_form'),
  $defs: {
    name: { type: 'string', minLength: 1, maxLength: MAX_NAME_LENGTH, pattern: '\\S' },
    expression: {
      type: 'string',
      minLength: 1,
      maxLength: MAX_EXPRESSION_LENGTH,
      description: 'CEL over input, nodes.<id>.output|state|failure, run, and item, index, matrix in a fan-out.',
    },
    reference,
    template,
    list,
    node,
    nodes_form: nodesForm,
    chain_form: chainForm,
  },
};
