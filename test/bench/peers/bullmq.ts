import { Queue, Worker } from 'bullmq';
import type { Peer } from './peer.ts';

const connectionOf = (url: string) => ({
  host: '127.0.0.1',
  port: Number(new URL(url).port),
  maxRetriesPerRequest: null,
});

/** On a Redis that writes each command to disk before it answers (appendfsync always). */
export const bullmq: Peer = {
  store: 'redis',
  variants: ['default'],
  async open(url) {
    const queue = new Queue('noop', { connection: connectionOf(url) });
    await queue.waitUntilReady();
    return {
      add: (data) => queue.add('noop', data),
      addMany: (list) => queue.addBulk(list.map((data) => ({ name: 'noop', data }))),
      async anyPending() {
        const counts = await queue.getJobCounts('wait', 'active', 'prioritized');
        return Object.values(counts).some((count) => count > 0);
      },
      close: () => queue.close(),
    };
  },
  anyPending: null,
  multiply: null,
  async work({ url, slots }, onJob) {
    const worker = new Worker('noop', async (job) => onJob(job.data), {
      connection: connectionOf(url),
      concurrency: slots,
    });
    worker.on('error', (error) => console.error('bullmq', error.message));
    return () => worker.close(true);
  },
};
