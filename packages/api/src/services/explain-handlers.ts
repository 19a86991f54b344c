import { BlockerSchema, type TaskService } from '@baton/contract';
import type { ClientEngine } from '@baton/engine';
import { create } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';
import type { ServiceImpl } from '@connectrpc/connect';
import { taskStates } from '../messages/words.ts';

/** TaskService's call about what keeps a task from running. */
export function explainHandlers(engine: ClientEngine): Pick<ServiceImpl<typeof TaskService>, 'explainTask'> {
  return {
    async explainTask(request) {
      const explained = await engine.explain(request.namespace || 'default', request.taskId);
      return {
        state: taskStates[explained.state],
        summary: explained.summary,
        blockers: explained.blockers.map((blocker) =>
          create(BlockerSchema, {
            reason: blocker.reason,
            message: blocker.message,
            remedy: blocker.remedy,
            worker: blocker.worker ?? '',
            missing: blocker.missing,
            ...(blocker.until && { until: timestampFromDate(blocker.until) }),
          }),
        ),
        fittingWorkers: explained.fittingWorkers,
        ahead: explained.ahead,
      };
    },
  };
}
