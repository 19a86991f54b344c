/** What the workers of `task why` can do. */
import { task } from '@baton/client';

export const wait = task({
  id: 'wait',
  run: ({ ms }: { readonly ms: number }, { signal }) =>
    new Promise<null>((resolve, reject) => {
      const timer = setTimeout(() => resolve(null), ms);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        reject(signal.reason);
      });
    }),
});
