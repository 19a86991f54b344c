export { BindError, InvalidOriginError, NotLoopbackError, PortTakenError } from './errors.ts';
export { FrameReader, framed, framedCompressed } from './grpc-frames.ts';
export { fastGzip } from './gzip.ts';
export { createHealth, type Health, type HealthSource, type HealthStatus } from './health.ts';
export { assertLoopback, isLoopback } from './loopback.ts';
export type {
  CloseOptions,
  FetchEnvironment,
  OnError,
  RunningServer,
  ServeOptions,
  ServerContext,
  ServerTiming,
} from './options.ts';
export { serve } from './serve.ts';
