export {
  type Child,
  type ChildOptions,
  ChildStartError,
  type Environment,
  type Exit,
  launchChild,
  NotLoggedError,
  type RestartOptions,
} from './child.ts';
export { startContainers, type TestContainers } from './containers.ts';
export {
  NoTestServerError,
  startTestPostgres,
  type TestDatabase,
  type TestPostgres,
  testDatabase,
} from './database.ts';
export {
  type AnswerChoice,
  type FaultProxy,
  type FaultProxyOptions,
  startFaultProxy,
} from './fault-proxy.ts';
export type { ProxyProtocol } from './fault-proxy-framing.ts';
export { type ProgramName, programMain, withSourcePlaces } from './programs.ts';
export { NoSuchWorkerError, type Stack, type StackOptions, startStack, type WorkerSetup } from './stack.ts';
