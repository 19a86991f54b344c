/**
 * The messages and services of `baton.v1`, and of `ContainerExecutor` that existing services speak. All of it is
 * generated; see `proto/`. What gRPC itself defines (health, reflection) is under `@baton/contract/grpc`.
 */
export {
  ContainerExecutor,
  type ExecuteRequest,
  ExecuteRequestSchema,
  type ExecuteResponse,
  ExecuteResponseSchema,
  file_container_executor,
} from './gen/container_executor_pb.js';
