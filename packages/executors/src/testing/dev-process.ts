// Watches one module of tasks and does what the test that forked it says: `node dev-process.ts <module>`.
import { loadTasks } from '../load-tasks.ts';

export type Request =
  | { readonly type: 'run'; readonly kind: string }
  /** Starts a task with a gate as its input; `release` opens the gate. */
  | { readonly type: 'start'; readonly kind: string }
  | { readonly type: 'release' };

export type Reply =
  | { readonly type: 'ready'; readonly kinds: readonly string[] }
  | { readonly type: 'kinds'; readonly kinds: readonly string[] }
  | { readonly type: 'reloaded' }
  | { readonly type: 'started' }
  | { readonly type: 'error'; readonly message: string }
  | { readonly type: 'result'; readonly value: unknown }
  | { readonly type: 'released'; readonly value: unknown };

const reply = (message: Reply) => process.send!(message);

const source = await loadTasks([process.argv[2]!], {
  watch: true,
  onReload: () => reply({ type: 'reloaded' }),
  onError: ({ message }) => reply({ type: 'error', message }),
});
source.onKindsChange?.(() => reply({ type: 'kinds', kinds: source.kinds }));

const gate = Promise.withResolvers<void>();
let running: unknown;
process.on('message', async (request: Request) => {
  switch (request.type) {
    case 'run':
      reply({ type: 'result', value: await source.get(request.kind)!.run(undefined, undefined as never) });
      break;
    case 'start':
      running = source.get(request.kind)!.run(gate.promise, undefined as never);
      reply({ type: 'started' });
      break;
    case 'release':
      gate.resolve();
      reply({ type: 'released', value: await running });
      break;
  }
});
reply({ type: 'ready', kinds: source.kinds });
