export { type AddressCheck, checkAddress, isMethodName } from './address.ts';
export {
  type CheckedExpression,
  ExpressionError,
  type ExpressionScope,
  type Expressions,
  type ExpressionVariables,
  MAX_EXPRESSION_LENGTH,
  type NodeView,
} from './expressions.ts';
export {
  type ExpressionContext,
  type InputReference,
  type ResolvedInput,
  resolveInput,
  templateNodes,
  templateOfNode,
  templatePartNodes,
  type UnresolvedReference,
  type ValuePath,
} from './input-template.ts';
export {
  CanonicalJsonError,
  canonicalJson,
  type JsonObject,
  type JsonValue,
  MAX_JSON_DEPTH,
  MAX_JSON_VALUES,
  ownValue,
  setOwnValue,
} from './json.ts';
export { MAX_TEXT_LENGTH, MAX_TEXT_PROBLEMS, type ParsedText, parseJsonText, textProblem } from './json-text.ts';
export {
  CONTAINER_EXECUTOR_METHOD,
  DEFAULT_NODE_QUEUE,
  DEFAULT_NODE_TASK_CLASS,
  DEFAULT_NODE_TIMEOUT_MS,
  EDGE_TYPES,
  type EdgeType,
  type ForEach,
  JOIN_RULES,
  type JoinRule,
  MAX_CACHE_SECONDS,
  MAX_DEFINITION_EDGES,
  MAX_DEFINITION_NODES,
  MAX_FOR_EACH_ITEMS,
  MAX_LABEL_LENGTH,
  MAX_NAME_LENGTH,
  MAX_NODE_LABELS,
  MAX_NODE_TAGS,
  MAX_TIMEOUT_SECONDS,
  NODE_TYPES,
  type NodeCache,
  type NodeDefinition,
  type NodeExecutor,
  type NodeType,
  PROGRAM_EXECUTORS,
  type ProgramExecutorType,
  type WorkflowDefinition,
} from './model.ts';
export { type ArtifactReference, artifactReference } from './node-artifacts.ts';
export { PROGRAM_SETTINGS, type Setting } from './node-program.ts';
export { type ParsedDefinition, parseDefinition, parseDefinitionJson } from './parse-definition.ts';
export {
  at as placeBelow,
  didYouMean,
  type Place as FilePlace,
  type Problem,
  type ProblemCode,
  quote as quoteText,
  ROOT as FILE_ROOT,
} from './problem.ts';
export { nodesReadBy, nodesReadInto, type Resolved, resolveItems, resolveWhen } from './resolve-node.ts';
export { showCycle } from './show-cycle.ts';
export { fromStoredForm, StoredFormError, toStoredForm } from './stored-form.ts';
export {
  InvalidDefinitionError,
  type NodeState,
  type PlannedGraph,
  topologicalWaves,
} from './waves.ts';
