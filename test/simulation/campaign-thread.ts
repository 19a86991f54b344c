import { parentPort, workerData } from 'node:worker_threads';
import { checksHistory, type ThreadShare } from './campaign.ts';
import { type SimulationResult, simulate } from './simulation.ts';

const { from, step, until, mutation } = workerData as ThreadShare;
let batch: SimulationResult[] = [];
for (let seed = from; seed < until; seed += step) {
  const result = simulate({ seed, mutation, history: checksHistory(seed) });
  batch.push(result);
  if (batch.length < 20 && result.violations.length === 0) continue;
  parentPort!.postMessage(batch);
  batch = [];
}
parentPort!.postMessage(batch);
