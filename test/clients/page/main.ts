// A user's page: what it does is called by the test, from inside of the browser.
import { BatonError, createBaton, task } from '@baton/client';
import { WorkerService } from '@baton/contract';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web';

/** Carried out by a worker; the page knows its name and its types. */
const gated = task<{ file: string; value: number }, number>({ id: 'gated', run: ({ value }) => value });

/** The test's: lets the task go on. */
declare const release: () => Promise<void>;

const page = {
  /** Submits a task, watches it by server streaming, reads what it wrote and gave. */
  async run(url: string, file: string) {
    const baton = createBaton({ url });
    const handle = await baton.enqueue(gated, { file, value: 42 });
    const states: string[] = [];
    for await (const { state } of handle.watch()) {
      if (states.at(-1) !== state) states.push(state);
      if (state === 'leased') await release();
    }
    const chatty = await baton.submit({ kind: 'chatty', input: { lines: 2 } });
    const lines: string[] = [];
    for await (const { text } of chatty.logs({ follow: true })) lines.push(text);
    return { id: handle.id, states, output: await handle.result(), lines };
  },

  /** The error of a submit. */
  async refused(url: string) {
    try {
      await createBaton({ url }).submit({ kind: 'sum', input: { a: 1, b: 1 } });
    } catch (error) {
      const { code, message } = error as BatonError;
      return { isBatonError: error instanceof BatonError, code, message };
    }
    return 'it was taken';
  },

  /** The details of a refusal by the master, which browsers may read when the headers are exposed. */
  async invalid(url: string) {
    try {
      await createBaton({ url }).submit({ kind: '', priority: 5000 });
    } catch (error) {
      const { code, reason, violations } = error as BatonError;
      return { code, reason, fields: violations.map(({ field }) => field) };
    }
    return 'it was taken';
  },

  async workerStatus(url: string, protocol: 'connect' | 'grpc-web') {
    const transport = (protocol === 'connect' ? createConnectTransport : createGrpcWebTransport)({ baseUrl: url });
    const { name, masterUrl } = await createClient(WorkerService, transport).getStatus({});
    return { name, masterUrl };
  },
};

export type Page = typeof page;
Object.assign(globalThis, { page });
