// Runs the master's or the worker's main module as a child of `baton up`: `node child.ts master|worker`. A thread of its
// own watches stdin, a pipe from the supervisor: when that ends, the supervisor is gone, and so is this process soon.
// It is a thread because a task may keep the main one busy.
import { Worker } from 'node:worker_threads';

new Worker(new URL('./lifeline.ts', import.meta.url)).unref();

if (process.argv[2] === 'master') await import('@baton/master/main');
else await import('@baton/worker/main');
