import type { Requirements } from '../requirements.ts';
import type { ResourceRequest } from '../resources.ts';
import type { RetryPolicy } from '../retry.ts';
import type { TaskEnvironment } from '../task-environment.ts';
import type { TaskClass } from '../task-state.ts';
import type { JsonObject, JsonValue } from './json.ts';

/** Executors whose settings are kept as the contract's JSON has them. */
export const PROGRAM_EXECUTORS = ['process', 'http', 'container'] as const;
export type ProgramExecutorType = (typeof PROGRAM_EXECUTORS)[number];

/** How a worker carries a node out. */
export type NodeExecutor =
  /** The function that a worker's module exports for this kind. */
  | { readonly type: 'function'; readonly kind: string }
  /** A unary call: `address` is `host:port`, `method` is `Service/Method` or `package.Service/Method`. */
  | { readonly type: 'grpc'; readonly address: string; readonly method: string }
  /** A program, a function behind a URL, or a container; `config` is the contract's message as JSON. */
  | { readonly type: ProgramExecutorType; readonly config: JsonObject }
  /** A run of another workflow; `version` null is the newest when the node starts. Its output is the node's. */
  | { readonly type: 'workflow'; readonly name: string; readonly version: number | null };

/** Labels of nodes that say what they are for; they change nothing about how a node runs. */
export const NODE_TYPES = ['signature', 'verifier', 'reward', 'training', 'deployment', 'custom'] as const;
export type NodeType = (typeof NODE_TYPES)[number];

/** Labels of needs; `data` is the default and not kept. */
export const EDGE_TYPES = ['data', 'control', 'reward'] as const;
export type EdgeType = (typeof EDGE_TYPES)[number];

/** When a node starts: once all needs succeeded, all ended and one succeeded, or all ended. */
export const JOIN_RULES = ['all', 'any', 'always'] as const;
export type JoinRule = (typeof JOIN_RULES)[number];

/** What makes one task per item of a node. `maxParallel`: how many at once; absent: as many as there are. */
export type ForEach =
  /** A template whose value is a list; a list itself stands for its items. */
  | { readonly items: JsonValue; readonly maxParallel?: number }
  /** By axis a template whose value is a list: an item for each combination, the last axis fastest. */
  | { readonly matrix: Readonly<Record<string, JsonValue>>; readonly maxParallel?: number };

/** How long, and by what, the result of a node is used again within its namespace and kind. */
export interface NodeCache {
  readonly ttlMs: number;
  /** A template; absent: the whole input. */
  readonly key?: JsonValue;
}

/** A vertex of a workflow: one task of each run, or one per item. Absent fields are those that a file does not use. */
export interface NodeDefinition {
  /** Data, not an identifier: `__proto__` and `constructor` are names like any other. */
  readonly id: string;
  /** The nodes that must have succeeded before this one starts; sorted, each once. */
  readonly needs: readonly string[];
  readonly executor: NodeExecutor;
  /** The task kind: the function's name, the gRPC method, the name of the workflow, or the node's id. */
  readonly kind: string;
  readonly queue: string;
  readonly taskClass: TaskClass;
  /** Tags that a worker must all have; sorted. */
  readonly tags: readonly string[];
  /** May contain references (`$from`, `$input`) and expressions (`$expr`): see `resolveInput`. Default `{}`. */
  readonly input: JsonValue;
  /** Default `DEFAULT_RETRY`; a file may set any part of it. */
  readonly retry: Readonly<RetryPolicy>;
  /** Start to close of one attempt. Default 3 600 000. */
  readonly timeoutMs: number;
  /** Higher goes first. Default 0. */
  readonly priority: number;
  /** An expression that must be true when the node could start, else it is skipped. */
  readonly when?: string;
  readonly forEach?: ForEach;
  /** Absent: `all`. */
  readonly join?: 'any' | 'always';
  /** `continue`: its failure does not stop the run; what needs it runs, with its output null. Absent: it stops. */
  readonly onFailure?: 'continue';
  readonly type?: NodeType;
  /** By need; absent: `data`. */
  readonly edgeTypes?: Readonly<Record<string, 'control' | 'reward'>>;
  readonly labels?: Readonly<Record<string, string>>;
  /** How long a task may wait for its first start. Absent: for ever. */
  readonly scheduleToStartMs?: number;
  /** How long an attempt may go without progress. Absent: for ever. */
  readonly progressTimeoutMs?: number;
  readonly cache?: NodeCache;
  /** Files that its tasks are handed, by name: each refers to one that another node produces, or is a template whose value names one. */
  readonly artifacts?: Readonly<Record<string, JsonValue>>;
  /** What its tasks find around them. */
  readonly environment?: TaskEnvironment;
  /** What it has for itself; what is left out has its default. */
  readonly resources?: ResourceRequest;
  /** What its worker must be. */
  readonly requires?: Requirements;
}

/** A workflow in its normal form: what every file form, and the builder, become. */
export interface WorkflowDefinition {
  readonly name: string;
  readonly description?: string;
  /** The file form that it was written in: `chain` (start_node and next_node) or `nodes` (needs). */
  readonly form: 'chain' | 'nodes';
  /** In an order in which they could run: by wave, within a wave by id; never the order of the file. */
  readonly nodes: readonly NodeDefinition[];
  /** A template of the run's output. Absent: the outputs of the nodes that nothing needs, by id. */
  readonly output?: JsonValue;
}

export const DEFAULT_NODE_QUEUE = 'default';
export const DEFAULT_NODE_TASK_CLASS: TaskClass = 'cpu_short';
export const DEFAULT_NODE_TIMEOUT_MS = 3_600_000;

/** The method that the services of a chain speak. */
export const CONTAINER_EXECUTOR_METHOD = 'ContainerExecutor/Execute';

/** The most nodes and edges that one definition may list. */
export const MAX_DEFINITION_NODES = 20_000;
export const MAX_DEFINITION_EDGES = 200_000;

/** The longest name of a workflow, node, queue, task kind or tag, in UTF-16 code units. */
export const MAX_NAME_LENGTH = 200;

/** The longest timeout and the longest delay between attempts: 30 days, as in the contract. */
export const MAX_TIMEOUT_SECONDS = 2_592_000;

/** The most tags that one node may ask for, as in the contract. */
export const MAX_NODE_TAGS = 32;

/** The most items that a `for_each` or `matrix` may have; counted when the node starts. */
export const MAX_FOR_EACH_ITEMS = 100_000;

/** The most labels of a node, and the longest text of one, as for tasks. */
export const MAX_NODE_LABELS = 64;
export const MAX_LABEL_LENGTH = 2_000;

/** The longest time that a result may be used again: a year. */
export const MAX_CACHE_SECONDS = 31_536_000;
