import { parseArgs } from 'node:util';
import { checkHistory, showReport } from './check-history.ts';
import { DEFAULT_HISTORY_SETTINGS, type HistorySettings } from './history.ts';
import { readHistory } from './read-history.ts';

const USAGE = `Checks the history in a database of Baton: the invariants that a database can show by itself. Reads only.

  npm run check:history -- DATABASE_URL [--settled] [--settings JSON]

  DATABASE_URL     of the database; default: the environment's
  --settled        nothing should be under way any more: what has not ended counts as lost
  --settings JSON  what differs from the defaults, e.g. '{"poisonCrashes": 3, "retry": {"initialDelayMs": 1000, "factor": 2, "maxDelayMs": 60000, "jitter": 0, "maxAttempts": 4}}'

Exit code: 0 all hold, 1 something is broken, 2 the database could not be read, 64 wrong use.
`;

/** Exit codes of the command. */
const BROKEN = 1;
const UNREADABLE = 2;
const WRONG_USE = 64;

async function main(args: string[]): Promise<number> {
  let url: string | undefined;
  let isSettled: boolean;
  let settings: Partial<HistorySettings>;
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: { settled: { type: 'boolean' }, settings: { type: 'string' }, help: { type: 'boolean' } },
    });
    if (values.help) {
      process.stdout.write(USAGE);
      return 0;
    }
    url = positionals[0] ?? process.env.DATABASE_URL;
    isSettled = values.settled ?? false;
    settings = JSON.parse(values.settings ?? '{}') as Partial<HistorySettings>;
    if (!url || positionals.length > 1) throw new TypeError('name one database');
    const known = Object.keys(DEFAULT_HISTORY_SETTINGS);
    const unknown = Object.keys(settings).filter((name) => !known.includes(name));
    if (unknown.length > 0) throw new TypeError(`no settings: ${unknown.join(', ')}; there are ${known.join(', ')}`);
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return WRONG_USE;
  }
  try {
    const history = await readHistory(url, settings);
    const settledAtMs = isSettled ? history.database.takenAtMs : null;
    const { tasks, attempts, events } = history.database;
    process.stderr.write(`${tasks.length} tasks, ${attempts.length} ended leases, ${events.length} events\n`);
    const report = checkHistory({ ...history, settings: { ...history.settings, settledAtMs } });
    process.stdout.write(`${showReport(report)}\n`);
    return report.violated > 0 ? BROKEN : 0;
  } catch (error) {
    process.stderr.write(`the history could not be read: ${String((error as Error).message || error)}\n`);
    return UNREADABLE;
  }
}

process.exitCode = await main(process.argv.slice(2));
