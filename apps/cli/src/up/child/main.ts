// Becomes the master or a worker as a child of `baton up`: `node child/main.ts master|worker`.
//
// Its stdin is a pipe from the supervisor. One line of JSON comes through it, the environment: until then this process
// loads what it will need, beside others that start. When the pipe ends, the supervisor is gone, and so is this process
// soon. A thread of its own reads it, because a task may keep the main one busy.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

// Nobody reads any more what is said after the supervisor's death: that is no reason to fall over.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const MASTER_GRACE_MS = 2_000;

const isMaster = process.argv[2] === 'master';
// The master goes last: workers give back what they hold through it.
const workerData = { graceMs: isMaster ? MASTER_GRACE_MS : 0 };
const lifeline = new Worker(new URL('./lifeline.ts', import.meta.url), { workerData });
const told = once(lifeline, 'message');
await (isMaster ? import('@baton/master') : import('@baton/worker'));
const [environment] = await told;
lifeline.unref();
Object.assign(process.env, environment);
await (isMaster ? import('@baton/master/main') : import('@baton/worker/main'));
