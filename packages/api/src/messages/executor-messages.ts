import {
  ContainerTaskExecutorSchema,
  FunctionExecutorSchema,
  GrpcExecutorSchema,
  HttpExecutorSchema,
  type Lease,
  ProcessExecutorSchema,
  type TaskEnvironment as TaskEnvironmentMessage,
  TaskEnvironmentSchema,
  type TaskSpec,
} from '@baton/contract';
import type { JsonObject, TaskEnvironment } from '@baton/domain';
import type { TaskExecutor } from '@baton/engine';
import { create, fromJson, type JsonValue, toJson } from '@bufbuild/protobuf';

const FUNCTION = { case: 'function' as const, value: create(FunctionExecutorSchema) };
/** What a later version kept may have fields that this one does not know. */
const read = { ignoreUnknownFields: true };

export function toExecutor(executor: TaskSpec['executor']): TaskExecutor {
  switch (executor.case) {
    case 'grpc': {
      const { address, method, metadata } = executor.value;
      return { type: 'grpc', address, method, ...(Object.keys(metadata).length > 0 && { metadata }) };
    }
    case 'process':
      return { type: 'process', config: toJson(ProcessExecutorSchema, executor.value) as JsonObject };
    case 'http':
      return { type: 'http', config: toJson(HttpExecutorSchema, executor.value) as JsonObject };
    case 'container':
      return { type: 'container', config: toJson(ContainerTaskExecutorSchema, executor.value) as JsonObject };
    default:
      return { type: 'function' };
  }
}

/** For a lease, a task or a spec alike. */
export function executorMessage(executor: TaskExecutor): Lease['executor'] {
  switch (executor.type) {
    case 'grpc':
      return { case: 'grpc', value: create(GrpcExecutorSchema, executor) };
    case 'process':
      return { case: 'process', value: fromJson(ProcessExecutorSchema, executor.config as JsonValue, read) };
    case 'http':
      return { case: 'http', value: fromJson(HttpExecutorSchema, executor.config as JsonValue, read) };
    case 'container':
      return { case: 'container', value: fromJson(ContainerTaskExecutorSchema, executor.config as JsonValue, read) };
    default:
      return FUNCTION;
  }
}

export function toEnvironment({ pass, set, workingDirectory }: TaskEnvironmentMessage): TaskEnvironment {
  return {
    ...(pass.length > 0 && { pass }),
    ...(Object.keys(set).length > 0 && { set }),
    ...(workingDirectory !== '' && { workingDirectory }),
  };
}

export function environmentMessage(environment: TaskEnvironment): TaskEnvironmentMessage {
  return create(TaskEnvironmentSchema, {
    pass: [...(environment.pass ?? [])],
    set: { ...environment.set },
    workingDirectory: environment.workingDirectory ?? '',
  });
}
