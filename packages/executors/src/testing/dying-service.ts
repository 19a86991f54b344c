// A ContainerExecutor that never answers, in a process that a test kills: tells its port, then each call.
import { ContainerExecutor } from '@baton/contract';
import { serve } from '@baton/server';

const server = await serve({
  port: 0,
  services: [ContainerExecutor],
  routes: (router) =>
    router.service(ContainerExecutor, {
      execute: () => {
        process.send!({ called: true });
        return new Promise(() => {});
      },
    }),
});
process.send!({ port: server.port });
