import {
  fromStoredForm,
  notFound,
  type Problem,
  parseDefinitionJson,
  Refusal,
  toStoredForm,
  type WorkflowDefinition,
} from '@baton/domain';
import { hex, readWorkflow, storeWorkflow, type WorkflowRow } from '@baton/store';
import { sha256 } from '../data/digest.ts';
import type { LaneBook } from '../dispatch/lane-book.ts';
import type { EngineEnvironment } from '../environment.ts';
import { readFunctionForm } from '../functions/function-definition.ts';
import { persist } from '../persist.ts';
import { expressions } from './expressions.ts';
import { type FindDefinition, workflowCycles } from './workflow-cycles.ts';

export type ParsedWorkflow = { ok: true; definition: WorkflowDefinition } | { ok: false; problems: readonly Problem[] };

/** Definitions: checked, stored by version, remembered. */
export interface Workflows {
  /** Reads only; what its nodes run is looked up in the namespace. */
  validate(namespace: string, definitionJson: string): Promise<ParsedWorkflow>;
  /** @throws Refusal INVALID_WORKFLOW */
  apply(namespace: string, definitionJson: string): Promise<{ workflow: WorkflowRow; changed: boolean }>;
  /** @throws Refusal WORKFLOW_NOT_FOUND */
  definitionOf(namespaceId: number, name: string, version: number): Promise<WorkflowDefinition>;
}

/** INVALID_WORKFLOW with every problem. */
function invalid(problems: readonly Problem[]): Refusal {
  return new Refusal(
    'invalid_argument',
    'INVALID_WORKFLOW',
    problems
      .map((p) => `${p.path || 'file'}: ${p.message}`)
      .slice(0, 20)
      .join('\n'),
    {
      violations: problems.slice(0, 1000).map((p) => ({
        field: p.path,
        description: `${p.code}: ${p.message}${p.hint ? ` (${p.hint})` : ''}`,
      })),
    },
  );
}

export function createWorkflows(env: EngineEnvironment, lanes: LaneBook): Workflows {
  const { pools } = env;
  const definitions = new Map<string, Promise<WorkflowDefinition>>();

  function definitionOf(namespaceId: number, name: string, version: number): Promise<WorkflowDefinition> {
    const key = JSON.stringify([namespaceId, name, version]);
    let known = definitions.get(key);
    if (!known) {
      known = readWorkflow(pools.api, namespaceId, name, version).then((row) => {
        if (!row) throw notFound('workflow', `${name} version ${version}`);
        const definition = readFunctionForm(row.storedForm);
        // A function says itself what it does next: there is no graph.
        if (definition) return { name, description: definition.description, form: 'nodes', nodes: [] };
        return fromStoredForm(row.storedForm);
      });
      definitions.set(key, known);
      known.catch(() => definitions.delete(key));
      // Definitions of old versions are read again when they are wanted again.
      if (definitions.size > 500) definitions.delete(definitions.keys().next().value!);
    }
    return known;
  }

  async function apply(
    namespace: string,
    definitionJson: string,
  ): Promise<{ workflow: WorkflowRow; changed: boolean }> {
    const result = parseDefinitionJson(definitionJson, expressions);
    if (!result.ok) throw invalid(result.problems);
    const { definition } = result;
    // Whoever sends what is not sound makes no namespace by it.
    const known = await lanes.knownNamespaceId(namespace);
    const cycles = await workflowCycles(definition, finder(known));
    if (cycles.length > 0) throw invalid(cycles);
    const namespaceId = await lanes.namespaceId(namespace);
    const storedForm = toStoredForm(definition);
    const hash = hex(await sha256(new TextEncoder().encode(storedForm)));
    for (;;) {
      const newest = await readWorkflow(pools.api, namespaceId, definition.name, null);
      if (newest !== null && newest.hash === hash) return { workflow: newest, changed: false };
      const stored = await persist(
        () =>
          storeWorkflow(pools.api, {
            namespaceId,
            name: definition.name,
            hash,
            description: definition.description ?? '',
            definition: definitionJson,
            storedForm,
          }),
        env.random,
      );
      if (stored) return { workflow: stored, changed: true };
    }
  }

  /** Graphs by their names, each looked up once. */
  function finder(namespaceId: number): FindDefinition {
    const found = new Map<string, ReturnType<FindDefinition>>();
    return (name, version) => {
      const key = JSON.stringify([name, version]);
      let known = found.get(key);
      if (!known) {
        known = readWorkflow(pools.api, namespaceId, name, version).then(async (row) =>
          row === null || readFunctionForm(row.storedForm)
            ? null
            : { definition: await definitionOf(namespaceId, row.name, row.version), version: row.version },
        );
        found.set(key, known);
      }
      return known;
    };
  }

  return {
    async validate(namespace, definitionJson) {
      const result = parseDefinitionJson(definitionJson, expressions);
      if (!result.ok) return result;
      const problems = await workflowCycles(result.definition, finder(await lanes.knownNamespaceId(namespace)));
      return problems.length > 0 ? { ok: false, problems } : result;
    },
    apply,
    definitionOf,
  };
}
