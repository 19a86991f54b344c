import {
  ArtifactService,
  BlobService,
  CheckpointService,
  EventService,
  MasterService,
  SystemService,
  TaskService,
  WorkflowService,
} from '@baton/contract';
import type { ClientEngine, Engine } from '@baton/engine';
import type { ConnectRouter, Interceptor } from '@connectrpc/connect';
import { artifactService } from './services/artifact-service.ts';
import { blobService } from './services/blob-service.ts';
import { checkpointService } from './services/checkpoint-service.ts';
import { eventService } from './services/event-service.ts';
import { masterService } from './services/master-service.ts';
import { systemService } from './services/system-service.ts';
import { taskService } from './services/task-service.ts';
import { workflowService } from './services/workflow-service.ts';
import { errorInterceptor } from './wire/errors.ts';
import type { ApiOptions } from './wire/options.ts';
import { validateInterceptor } from './wire/validate.ts';

/** Everything that a master serves. */
export const MASTER_SERVICES = [
  TaskService,
  WorkflowService,
  EventService,
  SystemService,
  CheckpointService,
  BlobService,
  ArtifactService,
  MasterService,
] as const;

/** What the edge serves: calls that need no memory between requests. */
export const EDGE_SERVICES = [
  TaskService,
  WorkflowService,
  SystemService,
  CheckpointService,
  BlobService,
  ArtifactService,
] as const;

/** Errors outermost: what the validator throws is converted too. */
export function apiInterceptors(options: ApiOptions): Interceptor[] {
  return [errorInterceptor(options.report), validateInterceptor];
}

export function masterRoutes(engine: Engine, options: ApiOptions): (router: ConnectRouter) => void {
  return (router) => {
    router.service(TaskService, taskService(engine, options));
    router.service(WorkflowService, workflowService(engine, engine.hub, options));
    router.service(EventService, eventService(engine, options));
    router.service(SystemService, systemService(engine, engine.sessions, options));
    router.service(CheckpointService, checkpointService(engine));
    router.service(BlobService, blobService(engine, options));
    router.service(ArtifactService, artifactService(engine));
    router.service(MasterService, masterService(engine, options));
  };
}

export function edgeRoutes(engine: ClientEngine, options: ApiOptions): (router: ConnectRouter) => void {
  return (router) => {
    router.service(TaskService, taskService(engine, options));
    router.service(WorkflowService, workflowService(engine, null, options));
    router.service(SystemService, systemService(engine, null, options));
    router.service(CheckpointService, checkpointService(engine));
    router.service(BlobService, blobService(engine, options));
    router.service(ArtifactService, artifactService(engine));
  };
}
