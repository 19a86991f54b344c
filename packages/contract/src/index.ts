/**
 * The messages and services of `baton.v1`, and of `ContainerExecutor` that existing services speak. All of it is
 * generated; see `proto/`. What gRPC itself defines (health, reflection, error details) is under `@baton/contract/grpc`.
 */

export * from './gen/baton/v1/artifact_pb.js';
export * from './gen/baton/v1/blob_pb.js';
export * from './gen/baton/v1/checkpoint_pb.js';
export * from './gen/baton/v1/common_pb.js';
export * from './gen/baton/v1/event_pb.js';
export * from './gen/baton/v1/executor_pb.js';
export * from './gen/baton/v1/journal_pb.js';
export * from './gen/baton/v1/machine_pb.js';
export * from './gen/baton/v1/master_pb.js';
export * from './gen/baton/v1/resource_pb.js';
export * from './gen/baton/v1/system_pb.js';
export * from './gen/baton/v1/task_pb.js';
export * from './gen/baton/v1/worker_pb.js';
export * from './gen/baton/v1/workflow_pb.js';
export * from './gen/container_executor_pb.js';
