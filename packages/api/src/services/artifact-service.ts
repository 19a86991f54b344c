import type { ArtifactService } from '@baton/contract';
import { isId, notFound, Refusal } from '@baton/domain';
import { type ClientEngine, readRun } from '@baton/engine';
import type { ServiceImpl } from '@connectrpc/connect';
import { artifactMessage } from '../messages/artifact-messages.ts';
import { decodePageToken, encodePageToken } from '../messages/page-token.ts';

const DEFAULT_PAGE = 50;

export function artifactService(engine: ClientEngine): ServiceImpl<typeof ArtifactService> {
  const { artifacts, lanes, tasks, env } = engine;
  return {
    async listArtifacts(request) {
      const { runId, taskId, nodeId, name } = request;
      const namespace = request.namespace || 'default';
      if ((runId === '') === (taskId === '')) {
        const description = 'one of run_id and task_id is required, and one only';
        throw new Refusal('invalid_argument', 'INVALID_REQUEST', `run_id: ${description}`, {
          violations: [{ field: 'run_id', description }],
        });
      }
      const namespaceId = await lanes.knownNamespaceId(namespace);
      if (taskId !== '') await tasks.get(namespace, taskId, 0);
      else if (!isId(runId) || !(await readRun(env.pools.api, namespaceId, runId))) throw notFound('run', runId);
      const list = JSON.stringify(['artifacts', namespace, runId, taskId, nodeId, name]);
      const token = decodePageToken(list, request.pageToken, isKey);
      const page = await artifacts.list(
        namespaceId,
        { runId: runId || null, taskId: taskId || null, nodeId: nodeId || null, name: name || null },
        token === null ? null : keyOf(token),
        request.pageSize || DEFAULT_PAGE,
      );
      return {
        artifacts: page.artifacts.map(artifactMessage),
        nextPageToken: page.next === null ? '' : encodePageToken(list, `${page.next.taskId}/${page.next.name}`),
      };
    },
  };
}

const isKey = (text: string) => /^[1-9]\d{0,18}\//.test(text) && isId(text.slice(0, text.indexOf('/')));

function keyOf(text: string): { taskId: string; name: string } {
  const slash = text.indexOf('/');
  return { taskId: text.slice(0, slash), name: text.slice(slash + 1) };
}
