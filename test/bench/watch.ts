import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { connect } from './calls.ts';
import { rssMb } from './crowd.ts';
import { whenSucceeded } from './drain.ts';
import { verifyHistory } from './history.ts';
import { startLoad } from './load.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';
import type { Percentiles } from './statistics.ts';
import type { WatchWord } from './watch.program.ts';

/** So many watchers of one master, of everything that one worker does at a steady pace. */
export interface WatchRun {
  watchers: number;
  connections: number;
  /** No-op tasks a second, of three events each. */
  rate: number;
  seconds: number;
  /** In all, before it was measured too; and how many events each watcher heard of exactly once. */
  tasks: number;
  eventsOfEach: number;
  /** From the event's own time, by Postgres's clock, to its arrival at a watcher; whole ms. */
  delayMs: Percentiles;
  /** In the time, at all watchers. */
  eventsPerSecond: number;
  messagesPerSecond: number;
  /** Of one core. */
  masterPercent: number;
  postgresPercent: number | null;
  driverPercent: number;
  foreignCores: number;
  /**
   * The master's memory: without watchers; when all watch and nothing has happened; when it begins to be measured; the most since the
   * watchers came; at the end, when all still watch.
   */
  rssMb: { alone: number; before: number; begun: number; peak: number; after: number };
}

/** Submitted, leased, succeeded. */
const EVENTS_OF_A_TASK = 3;
const CONNECTIONS = 10;
const SLOTS = 10;
const LOOK_MS = 100;
const END_MS = 30_000;

/** @throws WatchError when a watcher did not hear of every event exactly once */
export async function measureWatch(server: BenchServer, options: BenchOptions, watchers: number): Promise<WatchRun> {
  await using product = await startProduct(server, options);
  const client = connect(product.url);
  const rss = () => rssMb(product.masterPid);
  await product.addWorkers(1, SLOTS);
  const alone = rss();
  const program = fileURLToPath(new URL('watch.program.ts', import.meta.url));
  const connections = Math.min(CONNECTIONS, watchers);
  const driver = fork(program, [product.url, String(watchers), String(connections)], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const gone = once(driver, 'exit').then(([code]) => {
    throw new WatchError(`the watchers' process ended with ${code}\n${product.logs()}`);
  });
  gone.catch(() => {});
  const heard = <Word>() => Promise.race([once(driver, 'message'), gone]).then(([word]) => word as Word);
  let looking: NodeJS.Timeout | undefined;
  try {
    await heard();
    const before = rss();
    let peak = before;
    looking = setInterval(() => {
      peak = Math.max(peak, rss());
    }, LOOK_MS);
    await using load = await startLoad('baton', product.url, options.rate);
    // Compiled code, and the memory that the master keeps for what it does all the time.
    await sleep(options.settleMs);
    driver.send('begin');
    const begun = rss();
    const from = product.readCpu([driver.pid!]);
    await sleep(options.seconds * 1000);
    const to = product.readCpu([driver.pid!]);
    const tasks = await load.stop();
    await whenSucceeded(client, tasks, product.logs);
    const events = tasks * EVENTS_OF_A_TASK;
    driver.send({ events });
    const word = await Promise.race([heard<WatchWord>(), sleep(END_MS, null, { ref: false })]);
    if (word === null) throw new WatchError(`the watchers do not say what they heard\n${product.logs()}`);
    const after = rss();
    if (word.fewest !== events || word.known !== events || word.repeated > 0 || word.ended.length > 0)
      throw new WatchError(
        `${events} events: some watcher heard of ${word.fewest}, all together of ${word.known}, ${word.repeated} again; ended: ${word.ended.slice(0, 5)}`,
      );
    await verifyHistory(product.database.sql, tasks);
    const seconds = (to.atMs - from.atMs) / 1000;
    const percent = (part: 'master' | 'worker') => ((to[part] - from[part]) / seconds) * 100;
    const postgres = to.postgres === null || from.postgres === null ? null : to.postgres - from.postgres;
    const ours = (postgres ?? 0) + to.master - from.master + to.worker - from.worker + to.client - from.client;
    return {
      watchers,
      connections,
      rate: options.rate,
      seconds,
      tasks,
      eventsOfEach: events,
      delayMs: word.delayMs,
      eventsPerSecond: word.events / seconds,
      messagesPerSecond: word.messages / seconds,
      masterPercent: percent('master'),
      postgresPercent: postgres === null ? null : (postgres / seconds) * 100,
      driverPercent: percent('worker'),
      foreignCores: Math.max(0, to.machineBusy - from.machineBusy - ours) / seconds,
      rssMb: { alone, before, begun, peak, after },
    };
  } finally {
    clearInterval(looking);
    driver.kill('SIGKILL');
  }
}

/** Some watcher missed an event, or heard of one twice. */
export class WatchError extends Error {
  override readonly name = 'WatchError';
}
