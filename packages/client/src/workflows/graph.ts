import { PROGRAM_SETTINGS, type ProgramExecutorType, type TaskEnvironment } from '@baton/domain';
import type { ArtifactValue } from '../data/artifacts.ts';
import type { ResultOf } from '../data/blob-value.ts';
import type { ContainerOptions, HttpOptions, ProcessOptions } from '../tasks/program.ts';
import { resourceFields } from '../tasks/resources.ts';
import { isTaskDefinition, type TaskDefinition, type TaskPolicy } from '../tasks/task.ts';
import type { WorkflowDefinition } from '../workflows.ts';
import {
  type ArtifactReference,
  artifactReference,
  type CheckReference,
  type Expression,
  expressionText,
  fileArtifact,
  fileTemplate,
  GraphError,
  type Reference,
  reference,
  type Template,
  type ValueOf,
} from './graph-reference.ts';
import type { StandardSchema } from './standard-schema.ts';
import { isWorkflowFunction, type WorkflowFunction } from './workflow-function.ts';

/** A node of a graph. `Output` is what those that need it are handed; of a fan-out, the list in the order of the items. */
export interface GraphNode<Id extends string = string, Output = unknown> {
  readonly id: Id;
  readonly output: Reference<Output>;
  /** How it ended, for conditions of those that need it: ``when: () => expr<boolean>`${a.state} == "failed"` ``. */
  readonly state: Reference<'succeeded' | 'failed' | 'cancelled' | 'skipped'>;
  /**
   * A file that it produces, to be handed to a node that needs it. Of a fan-out: those of all its items, as `name/0`, `name/1`, …, or that of one
   * `item`, by its number.
   */
  artifact(
    name: string,
    options?: { readonly item?: number | Reference<number> | Expression<number> },
  ): ArtifactReference;
}

// Any output is a need. A task stands for the node that `node(task)` made of it.
// biome-ignore lint/suspicious/noExplicitAny: checked where it is given
type Need = GraphNode<string, any> | TaskDefinition<any, any, any, string>;
type Needs = readonly Need[];

type OutputReference<N> = N extends { readonly state: unknown; readonly output: infer Output }
  ? Output
  : // biome-ignore lint/suspicious/noExplicitAny: what it takes does not matter here
    N extends TaskDefinition<any, infer Output, any, string>
    ? Reference<ResultOf<Output>>
    : never;

/** What the functions of a node are handed: the run's `input`, and by id the outputs of its needs. */
export type NodeReferences<Input, N extends Needs> = { readonly input: Reference<Input> } & {
  readonly [Node in N[number] as Node['id']]: OutputReference<Node>;
};

/** Policy and the rest of what a file may say; what is left out has the task's policy, then the server's. */
export interface NodeSettings<Input, N extends Needs> extends TaskPolicy {
  /** Ends before this one starts. */
  readonly needs?: N;
  /** Skipped unless this is true. */
  readonly when?: (references: NodeReferences<Input, N>) => Expression<boolean> | Reference<boolean>;
  readonly join?: 'all' | 'any' | 'always';
  readonly onFailure?: 'stop' | 'continue';
  readonly type?: 'signature' | 'verifier' | 'reward' | 'training' | 'deployment' | 'custom';
  readonly labels?: Readonly<Record<string, string>>;
  /** A result of the same task and input, or `key`, is used again for `ttlMs`, at most a year. */
  readonly cache?: {
    readonly ttlMs: number;
    /** Default: the whole input. */
    readonly key?: (references: NodeReferences<Input, N>) => unknown;
  };
  /** Files that it is handed, by name: of its needs, or by what is in an output. */
  readonly artifacts?: HandedArtifacts | ((references: NodeReferences<Input, N> & FanOutReferences) => HandedArtifacts);
  /** By need; default `data`. */
  readonly edges?: { readonly [Id in N[number]['id']]?: 'data' | 'control' | 'reward' };
}

type HandedArtifacts = Readonly<
  Record<string, ArtifactReference | Reference<ArtifactValue> | Expression<ArtifactValue> | ArtifactValue>
>;

/** Of a node that runs once for each item. */
interface FanOutReferences {
  readonly item: Reference<unknown>;
  readonly matrix: Reference<unknown>;
  readonly index: Reference<number>;
}

// biome-ignore lint/suspicious/noConfusingVoidType: what a task without an input takes
type InputOf<Handed, Sent> = [Sent] extends [void]
  ? { readonly input?: undefined }
  : { readonly input: (references: Handed) => Template<Sent> };

// What `run` receives is the task's own matter: `Sent` is what a node sends.
// biome-ignore lint/suspicious/noExplicitAny: checked where it is given
type TaskOf<Output, Sent, Id extends string = string> = TaskDefinition<any, Output, Sent, Id>;
// biome-ignore lint/suspicious/noExplicitAny: as above
type FunctionOf<Output, Sent> = WorkflowFunction<any, Output, Sent>;

/** What a node can carry out besides tasks: a durable function or a graph, which is stored under its name by then. */
type WorkflowOf<Output, Sent> = FunctionOf<Output, Sent> | Graph<Sent, Output>;

/** A node's executor as files write it; input and output are the author's word. */
export type ExecutorCall =
  | { readonly grpc: { readonly address: string; readonly method: string } }
  | { readonly workflow: string; readonly version?: number }
  | { readonly process: ProcessOptions }
  | { readonly http: HttpOptions }
  | { readonly container: ContainerOptions };

type NodeArguments<Input, Sent, N extends Needs> =
  // biome-ignore lint/suspicious/noConfusingVoidType: what a task without an input takes
  [Sent] extends [void]
    ? [settings?: NodeSettings<Input, N>]
    : [settings: NodeSettings<Input, N> & InputOf<NodeReferences<Input, N>, NoInfer<Sent>>];

interface ForEachSettings<Input, N extends Needs, Item, Sent> extends NodeSettings<Input, N> {
  readonly items: (references: NodeReferences<Input, N>) => ItemsOf<Item>;
  readonly maxParallel?: number;
  readonly input: (
    references: NodeReferences<Input, N> & { readonly item: Reference<Item>; readonly index: Reference<number> },
  ) => Template<NoInfer<Sent>>;
}

interface MatrixSettings<Input, N extends Needs, Axes, Sent> extends NodeSettings<Input, N> {
  /** By axis, a list or what becomes one. */
  readonly axes: (references: NodeReferences<Input, N>) => Axes;
  readonly maxParallel?: number;
  readonly input: (
    references: NodeReferences<Input, N> & {
      readonly matrix: Reference<Combination<Axes>>;
      readonly index: Reference<number>;
    },
  ) => Template<NoInfer<Sent>>;
}

type AxesOf = Readonly<Record<string, unknown>>;

type ItemsOf<Item> = Reference<readonly Item[]> | Reference<Item[]> | Expression<readonly Item[]> | readonly Item[];

/** One value of each axis. */
export type Combination<Axes> = {
  -readonly [Axis in keyof Axes]: ValueOf<Axes[Axis]> extends readonly (infer Value)[] ? Value : never;
};

/** A graph, for those who only start it: it may be of another copy of this package. */
export interface StartableGraph<Input, Output = unknown> {
  readonly definition: WorkflowDefinition;
  readonly __input?: (input: Input) => void;
  readonly __output?: Output;
}

/** Whether a value is a graph (by its shape). */
export function isGraph(value: unknown): value is StartableGraph<never> {
  return typeof value === 'object' && value !== null && 'definition' in value && 'forEach' in value;
}

/** A workflow made in TypeScript. `definition` is the file that says the same. `Output` is that of a run, where `output` says it. */
export class Graph<Input, Output = unknown> implements StartableGraph<Input, Output> {
  /** Never there at run time: the types of a run's input and output. */
  declare readonly __input?: (input: Input) => void;
  declare readonly __output?: Output;
  readonly id: string;
  readonly #description: string | undefined;
  readonly #nodes = new Map<string, Record<string, unknown>>();
  /** Nodes that have their task's id, by the task. */
  readonly #byTask = new Map<object, GraphNode>();
  #output: unknown;

  constructor({ id, description }: { readonly id: string; readonly description?: string }) {
    this.id = id;
    this.#description = description;
  }

  /** One task; its id is the node's. */
  node<Output, Sent, const Id extends string, const N extends Needs = readonly []>(
    task: TaskOf<Output, Sent, Id>,
    ...settings: NodeArguments<Input, Sent, N>
  ): GraphNode<Id, ResultOf<Output>>;
  /** One task, or one run of another workflow. */
  node<const Id extends string, Output, Sent, const N extends Needs = readonly []>(
    id: Id,
    what: TaskOf<Output, Sent> | WorkflowOf<Output, Sent>,
    ...settings: NodeArguments<Input, Sent, N>
  ): GraphNode<Id, ResultOf<Output>>;
  node(...given: unknown[]): GraphNode<string, never> {
    const { id, executor, settings } = partsOf(given);
    return this.#add(id, executor, settings, given[0]);
  }

  /** A task for each item of a list (100 000 at most); `maxParallel` of them at once. Without an id of its own, the task's. */
  forEach<Output, Sent, Item, const Id extends string, const N extends Needs = readonly []>(
    task: TaskOf<Output, Sent, Id>,
    settings: ForEachSettings<Input, N, Item, Sent>,
  ): GraphNode<Id, Output[]>;
  /** Or a call for each: of a service, a program, a workflow that is known by its name. */
  forEach<Output = unknown, const Id extends string = string, Item = unknown, const N extends Needs = Needs>(
    id: Id,
    call: ExecutorCall,
    settings: ForEachSettings<Input, N, Item, unknown>,
  ): GraphNode<Id, Output[]>;
  /** Or a run of another workflow for each. */
  forEach<const Id extends string, Output, Sent, Item, const N extends Needs = readonly []>(
    id: Id,
    what: TaskOf<Output, Sent> | WorkflowOf<Output, Sent>,
    settings: ForEachSettings<Input, N, Item, Sent>,
  ): GraphNode<Id, Output[]>;
  forEach(...given: unknown[]): GraphNode<string, never> {
    const { id, executor, settings } = partsOf(given);
    return this.#add(id, executor, settings, given[0]);
  }

  /** A task for each combination of the axes' values (100 000 at most), the last axis fastest. Without an id of its own, the task's. */
  matrix<Output, Sent, const Id extends string, const Axes extends AxesOf, const N extends Needs = readonly []>(
    task: TaskOf<Output, Sent, Id>,
    settings: MatrixSettings<Input, N, Axes, Sent>,
  ): GraphNode<Id, Output[]>;
  /** Or a call for each: of a service, a program, a workflow that is known by its name. */
  matrix<
    Output = unknown,
    const Id extends string = string,
    const Axes extends AxesOf = AxesOf,
    const N extends Needs = Needs,
  >(id: Id, call: ExecutorCall, settings: MatrixSettings<Input, N, Axes, unknown>): GraphNode<Id, Output[]>;
  /** Or a run of another workflow for each. */
  matrix<const Id extends string, Output, Sent, const Axes extends AxesOf, const N extends Needs = readonly []>(
    id: Id,
    what: TaskOf<Output, Sent> | WorkflowOf<Output, Sent>,
    settings: MatrixSettings<Input, N, Axes, Sent>,
  ): GraphNode<Id, Output[]>;
  matrix(...given: unknown[]): GraphNode<string, never> {
    const { id, executor, settings } = partsOf(given);
    return this.#add(id, executor, settings, given[0]);
  }

  /** A unary call of a gRPC service; the answer's type is the author's word. */
  grpc<Output = unknown, const Id extends string = string, const N extends Needs = Needs>(
    id: Id,
    call: { readonly address: string; readonly method: string },
    settings: NodeSettings<Input, N> & { readonly input?: (references: NodeReferences<Input, N>) => unknown } = {},
  ): GraphNode<Id, Output> {
    return this.#add(id, { grpc: { address: call.address, method: call.method } }, settings);
  }

  /** A program that the worker starts; its kind is the node's id. The output's type is the author's word. */
  process<Output = unknown, const Id extends string = string, const N extends Needs = Needs>(
    id: Id,
    program: ProcessOptions,
    settings: NodeSettings<Input, N> & { readonly input?: (references: NodeReferences<Input, N>) => unknown } = {},
  ): GraphNode<Id, Output> {
    return this.#add(id, { process: programFields('process', program) }, settings);
  }

  /** A function behind a URL; its kind is the node's id. The output's type is the author's word. */
  http<Output = unknown, const Id extends string = string, const N extends Needs = Needs>(
    id: Id,
    call: HttpOptions,
    settings: NodeSettings<Input, N> & { readonly input?: (references: NodeReferences<Input, N>) => unknown } = {},
  ): GraphNode<Id, Output> {
    return this.#add(id, { http: programFields('http', call) }, settings);
  }

  /** A container; its kind is the node's id. The output's type is the author's word. */
  container<Output = unknown, const Id extends string = string, const N extends Needs = Needs>(
    id: Id,
    container: ContainerOptions,
    settings: NodeSettings<Input, N> & { readonly input?: (references: NodeReferences<Input, N>) => unknown } = {},
  ): GraphNode<Id, Output> {
    return this.#add(id, { container: programFields('container', container) }, settings);
  }

  /** A run of another workflow, whose output is the node's; without `version` the newest when it starts. */
  workflow<Output = unknown, const Id extends string = string, const N extends Needs = Needs>(
    id: Id,
    workflow: { readonly name: string; readonly version?: number },
    settings: NodeSettings<Input, N> & { readonly input?: (references: NodeReferences<Input, N>) => unknown } = {},
  ): GraphNode<Id, Output> {
    const { name, version } = workflow;
    return this.#add(id, { workflow: name, ...(version !== undefined && { version }) }, settings);
  }

  /** The output of a run; the graph that is returned is this one and knows its type. Default: that of each node which nothing needs, by id. */
  output<const T>(template: T): Graph<Input, ValueOf<T>> {
    this.#output = fileTemplate(template, (node, owner) => this.#checkOwn(node, owner));
    return this as unknown as Graph<Input, ValueOf<T>>;
  }

  /** In the form of files, as JSON: for `workflows.apply`, `runs.start`, a file. */
  get definition(): WorkflowDefinition {
    return {
      name: this.id,
      ...(this.#description !== undefined && { description: this.#description }),
      ...(this.#output !== undefined && { output: this.#output }),
      nodes: [...this.#nodes].map(([id, fields]) => ({ id, ...fields })),
    };
  }

  #checkOwn(node: string, owner: object): void {
    if (owner !== this) throw new GraphError(`the node "${node}" is one of another graph`);
  }

  /** The node that a task stands for among needs. */
  #needed(need: Need, by: string): GraphNode {
    // biome-ignore lint/suspicious/noExplicitAny: its output matters only where it is referred to
    if (!isTaskDefinition(need)) return need as GraphNode<string, any>;
    const node = this.#byTask.get(need);
    if (node) return node;
    throw new GraphError(
      `the node "${by}" needs the task "${need.id}", which is no node of its own: needs: [wf.node(…)]`,
    );
  }

  #add<Id extends string, Output>(
    id: Id,
    executor: object,
    settings: LooseSettings,
    task?: unknown,
  ): GraphNode<Id, Output> {
    if (this.#nodes.has(id)) throw new GraphError(`there are two nodes "${id}"`);
    const { edges = {} } = settings;
    const needs = (settings.needs ?? []).map((need) => this.#needed(need, id));
    const needed = new Set<string>(needs.map((need) => need.id));
    const check = (node: string, owner: object): void => {
      this.#checkOwn(node, owner);
      if (!needed.has(node)) throw new GraphError(`the node "${id}" refers to "${node}", which is not among its needs`);
    };
    for (const need of needs) fileTemplate(need.output, check);
    const handed: Record<string, unknown> = { input: reference<Input>({ type: 'input', path: [] }) };
    for (const need of needs) {
      if (need.id === 'input') throw new GraphError('a node "input" cannot be needed by name: "input" is the run\'s');
      handed[need.id] = need.output;
    }
    const items = settings.items && fileTemplate(settings.items(handed), check);
    const axes = settings.axes && fileTemplate(settings.axes(handed), check);
    if (settings.items || settings.axes) {
      for (const name of [settings.items ? 'item' : 'matrix', 'index'])
        handed[name] = reference({ type: 'name', name, path: [] });
    }
    const { maxParallel, cache } = settings;
    this.#nodes.set(
      id,
      withoutAbsent({
        ...executor,
        needs:
          needs.length === 0
            ? undefined
            : needs.map(({ id: need }) => (edges[need] ? { node: need, type: edges[need] } : need)),
        for_each: items === undefined ? undefined : withoutAbsent({ items, max_parallel: maxParallel }),
        matrix: axes === undefined ? undefined : withoutAbsent({ axes, max_parallel: maxParallel }),
        input: settings.input && fileTemplate(settings.input(handed), check),
        when: settings.when && expressionText(settings.when(handed), check),
        join: settings.join,
        on_failure: settings.onFailure,
        type: settings.type,
        labels: settings.labels && { ...settings.labels },
        cache:
          cache &&
          withoutAbsent({ ttl_seconds: cache.ttlMs / 1000, key: cache.key && fileTemplate(cache.key(handed), check) }),
        artifacts: settings.artifacts && artifactFields(settings.artifacts, handed, check),
        ...policyFields(settings),
      }),
    );
    const source = { node: id, owner: this, path: [] };
    const node: GraphNode<Id, Output> = Object.freeze({
      id,
      output: reference<Output>({ type: 'output', ...source }),
      state: reference<'succeeded' | 'failed' | 'cancelled' | 'skipped'>({ type: 'state', ...source }),
      artifact: (name: string, { item }: { readonly item?: unknown } = {}) => artifactReference(id, this, name, item),
    });
    if (isTaskDefinition(task) && !settings.items && !settings.axes) this.#byTask.set(task, node as GraphNode);
    return node;
  }
}

/** Id, executor and settings of a node, from arguments that were checked by their types. */
function partsOf(given: readonly unknown[]): { id: string; executor: object; settings: LooseSettings } {
  const [first, ...rest] = given;
  const [what, settings] = (typeof first === 'string' ? rest : given) as [unknown, LooseSettings | undefined];
  const id = typeof first === 'string' ? first : (first as TaskDefinition).id;
  if (isTaskDefinition(what)) return { id, executor: { task: what.id }, settings: { ...policyOf(what), ...settings } };
  return { id, executor: executorFields(what), settings: { ...settings } };
}

function executorFields(what: unknown): object {
  if (what instanceof Graph || isWorkflowFunction(what)) return { workflow: what.id };
  const call = what as ExecutorCall;
  if ('grpc' in call) return { grpc: { address: call.grpc.address, method: call.grpc.method } };
  if ('workflow' in call) return withoutAbsent({ workflow: call.workflow, version: call.version });
  if ('process' in call) return { process: programFields('process', call.process) };
  if ('http' in call) return { http: programFields('http', call.http) };
  if ('container' in call) return { container: programFields('container', call.container) };
  throw new GraphError(
    'a node carries out a task, a workflow or a call: { grpc }, { workflow }, { process }, { http } or { container }',
  );
}

/** The settings without their types, which were checked where they were given. */
interface LooseSettings extends TaskPolicy {
  readonly needs?: Needs;
  readonly edges?: Readonly<Record<string, string | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly items?: (references: any) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly input?: ((references: any) => unknown) | undefined;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly when?: (references: any) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly axes?: (references: any) => unknown;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly cache?: { readonly ttlMs: number; readonly key?: (references: any) => unknown };
  readonly maxParallel?: number;
  readonly join?: string;
  readonly onFailure?: string;
  readonly type?: string;
  readonly labels?: Readonly<Record<string, string>>;
  // biome-ignore lint/suspicious/noExplicitAny: checked where it is given
  readonly artifacts?: Readonly<Record<string, unknown>> | ((references: any) => Readonly<Record<string, unknown>>);
}

function artifactFields(
  artifacts: NonNullable<LooseSettings['artifacts']>,
  handed: object,
  check: CheckReference,
): Record<string, unknown> {
  const given = typeof artifacts === 'function' ? artifacts(handed) : artifacts;
  return Object.fromEntries(Object.entries(given).map(([name, value]) => [name, fileArtifact(value, check)]));
}

/**
 * A workflow in TypeScript: references instead of names, inputs checked by the compiler.
 *
 * ```ts
 * const wf = graph<{ year: number }>({ id: 'report' });
 * const list = wf.node('list', listFiles, { input: ({ input }) => ({ year: input.year }) });
 * const counts = wf.forEach('count', countFile, { needs: [list], items: ({ list }) => list.files, input: ({ item }) => ({ file: item.name }) });
 * const run = await baton.runs.start(wf.output({ counts: counts.output }), { input: { year: 2017 } });
 * const { counts } = await run.output();
 * ```
 */
export function graph<Input = unknown>(options: {
  readonly id: string;
  readonly description?: string;
  /** For its type; the run's input is not checked by it. */
  readonly input?: StandardSchema<Input, unknown>;
}): Graph<Input> {
  return new Graph<Input>(options);
}

function policyOf(task: TaskPolicy): TaskPolicy {
  const { queue, taskClass, tags, retry, priority } = task;
  const { startToCloseTimeoutMs, scheduleToStartTimeoutMs, progressTimeoutMs, environment, resources, requires } = task;
  return withoutAbsent({
    queue,
    taskClass,
    tags,
    retry,
    priority,
    startToCloseTimeoutMs,
    scheduleToStartTimeoutMs,
    progressTimeoutMs,
    environment,
    resources,
    requires,
  });
}

function policyFields(policy: TaskPolicy): Record<string, unknown> {
  const { retry } = policy;
  return {
    queue: policy.queue,
    task_class: policy.taskClass,
    tags: policy.tags && [...policy.tags],
    retry:
      retry &&
      withoutAbsent({
        max_attempts: retry.maxAttempts,
        initial_delay_seconds: seconds(retry.initialDelayMs),
        factor: retry.factor,
        max_delay_seconds: seconds(retry.maxDelayMs),
        jitter: retry.jitter,
      }),
    timeout_seconds: seconds(policy.startToCloseTimeoutMs),
    schedule_to_start_seconds: seconds(policy.scheduleToStartTimeoutMs),
    progress_timeout_seconds: seconds(policy.progressTimeoutMs),
    priority: policy.priority,
    environment: policy.environment && environmentFields(policy.environment),
    resources: policy.resources && resourceFields(policy.resources),
    requires: policy.requires && { ...policy.requires },
  };
}

function environmentFields({ pass, set, workingDirectory }: TaskEnvironment): Record<string, unknown> {
  return withoutAbsent({
    pass: pass && [...pass],
    set: set && { ...set },
    working_directory: workingDirectory,
  });
}

/** The options of a program, as files write them. */
function programFields(type: ProgramExecutorType, options: object): Record<string, unknown> {
  const given = options as Readonly<Record<string, unknown>>;
  const fields: Record<string, unknown> = {};
  for (const [name, { as, is }] of Object.entries(PROGRAM_SETTINGS[type])) {
    const value = given[as];
    if (value === undefined) continue;
    if (is === 'seconds') fields[name] = (value as number) / 1000;
    else if (is === 'mounts')
      fields[name] = (value as ContainerOptions['mounts'])!.map(({ source, target, readOnly }) =>
        withoutAbsent({ source, target, read_only: readOnly }),
      );
    else fields[name] = value;
  }
  return fields;
}

const seconds = (ms: number | undefined): number | undefined => (ms === undefined ? undefined : ms / 1000);

function withoutAbsent<T extends object>(fields: T): T {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;
}
