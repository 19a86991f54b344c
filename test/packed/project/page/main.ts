import { createBaton } from '@baton/client';
import { shout } from '../own.ts';

/** What the test calls in the page. */
export interface Page {
  shout(url: string, text: string): Promise<{ id: string; output: string; states: string[] }>;
}

const page: Page = {
  async shout(url, text) {
    const handle = await createBaton({ url }).enqueue(shout, { text });
    const states: string[] = [];
    for await (const task of handle.watch()) states.push(task.state);
    return { id: handle.id, output: await handle.result(), states };
  },
};
Object.assign(globalThis, { page });
