/**
 * Adds no-op tasks at a rate: `node load.program.ts WHO URL RATE`, each 50 ms a part of them in one call. Says that it has begun, and after
 * the word `stop` how many it has added.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, submitBulk } from './calls.ts';
import { JOB } from './peers/peer.ts';
import { loadPeer, readPeerName } from './peers/registry.ts';

const EVERY_MS = 50;
const MOST_OF_A_CALL = 1_000;
const [who, url, rateText] = process.argv.slice(2) as [string, string, string];
const rate = Number(rateText);
let isOn = true;
let added = 0;
process.on('message', () => {
  isOn = false;
});
process.on('disconnect', () => process.exit(0));

const addMany = await adder();
process.send!('begun');
const begin = performance.now();
while (isOn) {
  const due = Math.floor(((performance.now() - begin) * rate) / 1000) - added;
  if (due > 0) {
    await addMany(due);
    added += due;
  }
  await sleep(EVERY_MS);
}
process.send!(added);

async function adder(): Promise<(count: number) => Promise<unknown>> {
  if (who === 'baton') {
    const client = connect(url);
    // A call takes no more than 1 000.
    return (count) => {
      const calls = Array.from({ length: Math.ceil(count / MOST_OF_A_CALL) }, (_, i) => count - i * MOST_OF_A_CALL);
      return Promise.all(calls.map((left) => submitBulk(client, Math.min(left, MOST_OF_A_CALL))));
    };
  }
  const name = readPeerName(who)!;
  const peer = await loadPeer(name);
  const client = await peer.open(url, name.variant, 10, false);
  const { addMany } = client;
  if (addMany !== null) return (count) => addMany(Array.from({ length: count }, () => JOB));
  return (count) => Promise.all(Array.from({ length: count }, () => client.add(JOB)));
}
