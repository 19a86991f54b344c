import process from 'node:process';
import { createWorker } from '@baton/worker';
import { shout } from './own.ts';

const worker = createWorker({ tasks: [shout], url: process.argv[2]!, name: 'own-worker' });
process.once('SIGTERM', () => void worker.drain('asked by a signal'));
await worker.start();
console.log(JSON.stringify({ worker: worker.name, state: worker.state }));
console.log(JSON.stringify({ stopped: await worker.stopped }));
