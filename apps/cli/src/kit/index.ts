/** For users' tests: tasks, graphs and durable functions on the real engine, with a clock that leaps and failures to order. */
export { KitError, type KitErrorReason } from './errors.ts';
export type { Failing, FailRule, FailTarget, InjectedType } from './failing.ts';
export type { KitRun, KitTask } from './handles.ts';
export { type Kit, type KitOptions, startKit } from './kit.ts';
export { startTestServer, type TestServer } from './test-server.ts';
export type { StepCount } from './under-test.ts';
