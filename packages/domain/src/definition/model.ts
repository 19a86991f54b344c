import type { RetryPolicy } from '../retry.ts';
import type { TaskClass } from '../task-state.ts';
import type { JsonValue } from './json.ts';

/** How a worker carries a node out. */
export type NodeExecutor =
  /** The function that a worker's module exports for this kind. */
  | { readonly type: 'function'; readonly kind: string }
  /** A unary call: `address` is `host:port`, `method` is `Service/Method` or `package.Service/Method`. */
  | { readonly type: 'grpc'; readonly address: string; readonly method: string };

/** A vertex of a workflow: one task of each run. */
export interface NodeDefinition {
  /** Data, not an identifier: `__proto__` and `constructor` are names like any other. */
  readonly id: string;
  /** The nodes that must have succeeded before this one starts; sorted, each once. */
  readonly needs: readonly string[];
  readonly executor: NodeExecutor;
  /** The task kind: the function's name, or the gRPC method. */
  readonly kind: string;
  readonly queue: string;
  readonly taskClass: TaskClass;
  /** Tags that a worker must all have; sorted. */
  readonly tags: readonly string[];
  /** May contain references (`$from`, `$input`): see `resolveInput`. Default `{}`. */
  readonly input: JsonValue;
  /** Default `DEFAULT_RETRY`; a file may set any part of it. */
  readonly retry: Readonly<RetryPolicy>;
  /** Start to close of one attempt. Default 3 600 000. */
  readonly timeoutMs: number;
  /** Higher goes first. Default 0. */
  readonly priority: number;
}

/** A workflow in its normal form: what every file form, and the builder, become. */
export interface WorkflowDefinition {
  readonly name: string;
  readonly description?: string;
  /** The file form that it was written in: `chain` (start_node and next_node) or `nodes` (needs). */
  readonly form: 'chain' | 'nodes';
  /** In an order in which they could run: by wave, within a wave by id; never the order of the file. */
  readonly nodes: readonly NodeDefinition[];
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
