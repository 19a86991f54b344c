/**
 * A worker process of a peer: `node peer-worker.ts NAME URL SLOTS INDEX`. It says `ready`, takes jobs from the word `go` on, and says
 * how many it has done, about each 10 ms, with the times of those that were sent with one. Ends when its parent disconnects.
 */
import { loadPeer, readPeerName } from './registry.ts';

/** What it says. Times are of the machine's monotonic clock. */
export type WorkerWord = { say: 'ready' } | { say: 'done'; jobs: number; firstNs: string; delaysMs: number[] };

const [name, url, slots, index] = process.argv.slice(2) as [string, string, string, string];
const parsed = readPeerName(name)!;
const peer = await loadPeer(parsed);
const options = { url, variant: parsed.variant, slots: Number(slots), index: Number(index) };

let jobs = 0;
let firstNs = '0';
let delaysMs: number[] = [];
let isTold = true;
const tell = () => {
  isTold = true;
  if (process.connected) process.send!({ say: 'done', jobs, firstNs, delaysMs } satisfies WorkerWord);
  jobs = 0;
  firstNs = '0';
  delaysMs = [];
};
const onJob = (data: { sentNs?: string }) => {
  const now = process.hrtime.bigint();
  if (jobs++ === 0) firstNs = String(now);
  if (data.sentNs !== undefined) delaysMs.push(Number(now - BigInt(data.sentNs)) / 1e6);
  if (isTold) {
    isTold = false;
    setTimeout(tell, 10);
  }
};

await peer.prepare?.(options);
let stop: (() => Promise<unknown>) | undefined;
process.on('message', async () => {
  stop = await peer.work(options, onJob);
});
process.on('disconnect', async () => {
  await Promise.race([stop?.(), new Promise((resolve) => setTimeout(resolve, 5_000))]).catch(() => {});
  process.exit(0);
});
process.send!({ say: 'ready' } satisfies WorkerWord);
