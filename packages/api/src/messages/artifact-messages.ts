import {
  type Artifact,
  type ArtifactRef,
  ArtifactRefSchema,
  ArtifactSchema,
  type RunNode,
  type Task,
} from '@baton/contract';
import {
  ARTIFACTS_TAG,
  type ArtifactInput,
  type ArtifactRow,
  type ArtifactsWanted,
  type ClientEngine,
  type RunRow,
  type TaskRow,
} from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';

/** Of one task in a message, and of one run: ArtifactService tells all. */
const SHOWN_ARTIFACTS = 100;
const SHOWN_OF_RUN = 1_000;

export function artifactsWanted(refs: Readonly<Record<string, ArtifactRef>>): ArtifactsWanted {
  return Object.fromEntries(
    Object.entries(refs).map(([name, { sha256, taskId }]) => [name, { sha256, ...(taskId !== '' && { taskId }) }]),
  );
}

export function artifactRefs(inputs: readonly ArtifactInput[]): Record<string, ArtifactRef> {
  return Object.fromEntries(
    inputs.map(({ name, sha256, sizeBytes, producerTaskId }) => [
      name,
      create(ArtifactRefSchema, { sha256, sizeBytes: BigInt(sizeBytes), taskId: producerTaskId ?? '' }),
    ]),
  );
}

export function artifactMessage(row: ArtifactRow): Artifact {
  return create(ArtifactSchema, {
    name: row.name,
    sha256: row.sha256,
    sizeBytes: BigInt(row.sizeBytes),
    taskId: row.taskId,
    worker: row.worker,
    createTime: timestampFromDate(row.createdAt),
    nodeId: row.nodeId ?? '',
    ...(row.item !== null && { item: row.item }),
  });
}

/** What a task was handed and has produced. Nothing is read where there can be nothing. */
export async function taskArtifacts(
  { artifacts }: ClientEngine,
  row: TaskRow,
): Promise<Pick<Task, 'artifacts' | 'outputArtifacts'>> {
  const [inputs, outputs] = await Promise.all([
    row.tags.includes(ARTIFACTS_TAG) ? artifacts.inputsOf(row.id) : [],
    row.state === 'succeeded'
      ? artifacts.list(
          row.namespaceId,
          { taskId: row.id, runId: null, nodeId: null, name: null },
          null,
          SHOWN_ARTIFACTS,
        )
      : { artifacts: [] },
  ]);
  return { artifacts: artifactRefs(inputs), outputArtifacts: outputs.artifacts.map(artifactMessage) };
}

/** The files of the nodes of a run, each at its node; those of items are too many. */
export async function addArtifacts(
  { artifacts }: ClientEngine,
  run: Pick<RunRow, 'id' | 'namespaceId'>,
  nodes: readonly RunNode[],
): Promise<void> {
  if (nodes.length === 0 || !(await artifacts.hasAny(run.namespaceId))) return;
  const ofRun = { runId: run.id, taskId: null, nodeId: null, name: null };
  const page = await artifacts.list(run.namespaceId, ofRun, null, SHOWN_OF_RUN);
  const byTask = new Map(nodes.filter((node) => node.taskId !== '').map((node) => [node.taskId, node]));
  for (const row of page.artifacts) if (row.item === null) byTask.get(row.taskId)?.artifacts.push(artifactMessage(row));
}
