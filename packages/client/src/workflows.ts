import { WorkflowService } from '@baton/contract';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callOnce, callRepeatably, requestOptions } from './calls/call.ts';
import { BatonError } from './calls/error.ts';
import { type List, listOf, type PageOptions } from './calls/pages.ts';
import { type ProblemView, problemView, type WorkflowView, workflowView } from './runs/run-view.ts';

/** A workflow's definition as an object: Baton's own form, or the form of chained containers. */
export type WorkflowDefinition = Readonly<Record<string, unknown>>;

/** Workflows. Every call rejects with `BatonError`. */
export class Workflows {
  readonly #client: Client<typeof WorkflowService>;
  readonly #settings: CallSettings;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(WorkflowService, transport);
    this.#settings = settings;
  }

  /** Everything that is wrong with a definition, as the server sees it. Stores nothing. */
  async validate(
    definition: WorkflowDefinition,
    options?: CallOptions,
  ): Promise<{ readonly problems: readonly ProblemView[]; readonly nodeIds: readonly string[] }> {
    const { namespace } = this.#settings;
    const definitionJson = JSON.stringify(definition);
    const { problems, nodeIds } = await callRepeatably(this.#settings, options, () =>
      this.#client.validateWorkflow({ namespace, definitionJson }, requestOptions(this.#settings, options)),
    );
    return { problems: problems.map(problemView), nodeIds };
  }

  /** Stores a definition under its name; a changed one becomes the next version. Repeated without harm. */
  async apply(
    definition: WorkflowDefinition,
    options?: CallOptions,
  ): Promise<{ readonly workflow: WorkflowView; readonly changed: boolean }> {
    const { namespace } = this.#settings;
    const definitionJson = JSON.stringify(definition);
    const { workflow, changed } = await callOnce(() =>
      this.#client.applyWorkflow({ namespace, definitionJson }, requestOptions(this.#settings, options)),
    );
    return { workflow: workflowView(present(workflow)), changed };
  }

  /** `version`: default the newest. */
  async get(name: string, options?: CallOptions & { readonly version?: number }): Promise<WorkflowView> {
    const { namespace } = this.#settings;
    const { workflow } = await callRepeatably(this.#settings, options, () =>
      this.#client.getWorkflow({ namespace, name, version: options?.version }, requestOptions(this.#settings, options)),
    );
    return workflowView(present(workflow));
  }

  /** All versions of one workflow, the newest first, without their definitions. */
  versions(name: string, options?: PageOptions & CallOptions): List<WorkflowView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { workflows, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listWorkflowVersions(
          { namespace, name, pageSize, pageToken },
          requestOptions(this.#settings, options),
        ),
      );
      return { items: workflows.map(workflowView), nextPageToken };
    });
  }

  /** By name, each in its newest version, without the definition. */
  list(options?: PageOptions & CallOptions): List<WorkflowView> {
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const { workflows, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listWorkflows({ namespace, pageSize, pageToken }, requestOptions(this.#settings, options)),
      );
      return { items: workflows.map(workflowView), nextPageToken };
    });
  }
}

/** What an answer must hold. */
export function present<T>(value: T | undefined): T {
  if (value !== undefined) return value;
  throw new BatonError({ code: 'internal', reason: 'ANSWER_MISSING', message: 'the answer lacks what was asked for' });
}
