import { type Artifact, ArtifactService } from '@baton/contract';
import { type ArtifactValue, artifactNameProblem, isArtifactValue } from '@baton/domain';
import { type Client, createClient, type Transport } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { BatonError } from '../calls/error.ts';
import { type List, listOf, type PageOptions } from '../calls/pages.ts';
import { optionalDate } from '../calls/time.ts';
import { type BlobValue, isBlobValue } from './blob-value.ts';
import { type BlobContent, Blobs } from './blobs.ts';

export type { ArtifactValue };
export { isArtifactValue };

/** A file that a task has produced. */
export interface ArtifactView {
  /** As the task named it. */
  readonly name: string;
  /** Hex. */
  readonly sha256: string;
  readonly sizeBytes: number;
  readonly taskId: string;
  /** That produced it. */
  readonly worker: string;
  readonly createTime?: Date;
  /** Of a run: the node, or the step of a durable function. */
  readonly nodeId?: string;
  /** Of a node that runs once for each item. */
  readonly item?: number;
}

/** A file that a task is handed. */
export interface ArtifactInputView {
  readonly sha256: string;
  readonly sizeBytes: number;
  /** That produced it, where that is known. */
  readonly taskId?: string;
}

/** What names a file where a task is to be handed it: what `ctx.artifacts.put` gave, what `artifacts.list` gives, a blob. */
export type ArtifactSource = ArtifactValue | ArtifactView | BlobValue | { readonly sha256: string };

export interface ListArtifactsOptions extends PageOptions, CallOptions {
  /** Of the nodes of a run as they stand; or */
  readonly runId?: string;
  /** of one task. */
  readonly taskId?: string;
  readonly nodeId?: string;
  readonly name?: string;
}

/** Files that tasks produce and others are handed. Every call rejects with `BatonError`. */
export class Artifacts {
  readonly #client: Client<typeof ArtifactService>;
  readonly #settings: CallSettings;
  readonly #blobs: Blobs;

  constructor(transport: Transport, settings: CallSettings) {
    this.#client = createClient(ArtifactService, transport);
    this.#settings = settings;
    this.#blobs = new Blobs(transport, settings);
  }

  /** By task and name. Awaited: one page; iterated over: all. */
  list(options: ListArtifactsOptions): List<ArtifactView> {
    const { runId, taskId, nodeId, name } = options;
    const { namespace } = this.#settings;
    return listOf(options, async (pageSize, pageToken) => {
      const request = { namespace, runId, taskId, nodeId, name, pageSize, pageToken };
      const { artifacts, nextPageToken } = await callRepeatably(this.#settings, options, () =>
        this.#client.listArtifacts(request, requestOptions(this.#settings, options)),
      );
      return { items: artifacts.map(artifactView), nextPageToken };
    });
  }

  /**
   * Uploads a file that no task has produced, up to 10 GiB, and gives what names it: to be handed to tasks (`artifacts` of a submit, inputs
   * of runs). A `Blob` is read twice and never whole (`openAsBlob` of Node, a `File` of a page). What is kept already is not sent. What no
   * task names goes a day after its last use. Rejects with `INVALID_NAME` (invalid_argument) for a name that is none.
   */
  async put(name: string, data: Uint8Array | string | Blob, options?: CallOptions): Promise<ArtifactValue> {
    const problem = artifactNameProblem(name);
    if (problem !== null)
      throw new BatonError({
        code: 'invalid_argument',
        reason: 'INVALID_NAME',
        message: `the name ${JSON.stringify(name)} of an artifact ${problem}`,
      });
    return { __baton: 'artifact', name, ...(await this.#blobs.putFile(data, options)) };
  }

  /** Its bytes, as those of a blob: verified, and from where the connection broke when it does. */
  get(artifact: ArtifactSource, options?: CallOptions): BlobContent {
    return this.#blobs.get({ sha256: artifact.sha256 }, options);
  }
}

export function artifactView(artifact: Artifact): ArtifactView {
  return {
    name: artifact.name,
    sha256: artifact.sha256,
    sizeBytes: Number(artifact.sizeBytes),
    taskId: artifact.taskId,
    worker: artifact.worker,
    createTime: optionalDate(artifact.createTime),
    nodeId: artifact.nodeId || undefined,
    item: artifact.item,
  };
}

/** As the contract has it. Throws `BatonError` (invalid_argument) for what names no file. */
export function artifactRefs(sources: Readonly<Record<string, ArtifactSource>>) {
  return Object.fromEntries(
    Object.entries(sources).map(([name, source]) => {
      const { sha256 } = source ?? {};
      if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256))
        throw new BatonError({
          code: 'invalid_argument',
          reason: 'INVALID_REQUEST',
          message: `the artifact ${JSON.stringify(name)} is named by nothing that has a SHA-256`,
          violations: [{ field: `task.artifacts[${JSON.stringify(name)}]`, description: 'has no SHA-256' }],
        });
      const sizeBytes = 'sizeBytes' in source && typeof source.sizeBytes === 'number' ? source.sizeBytes : 0;
      const isView = !isBlobValue(source) && 'taskId' in source && typeof source.taskId === 'string';
      return [name, { sha256, sizeBytes: BigInt(sizeBytes), taskId: isView ? (source.taskId as string) : '' }];
    }),
  );
}
