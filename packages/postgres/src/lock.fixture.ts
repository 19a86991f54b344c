/** A program of its own for tests: takes the lock, says so, and holds it until it is killed. */
import { withLock } from './lock.ts';

await withLock(process.argv[2]!, 10_000, async () => {
  console.log('held');
  await new Promise(() => setInterval(() => {}, 60_000));
});
