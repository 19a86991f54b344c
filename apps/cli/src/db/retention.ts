import type { CliContext } from '../context.ts';
import { CliFailure, EXIT, usageError } from '../exit.ts';
import { printTable } from '../terminal/table.ts';
import { timeText } from '../terminal/words.ts';
import type { RetentionFlags } from './db-flags.ts';

type Master = typeof import('@baton/master');

/** `baton db retention`. */
export async function retention(this: CliContext, { output, dryRun, days }: RetentionFlags): Promise<void> {
  // By name, as the master itself: its code is loaded only by who asks for it.
  const { dropHistory, readConfig } = (await import(import.meta.resolve('@baton/master'))) as Master;
  const { createLogger } = await import('@baton/telemetry');
  const { home, databaseUrl, logDir, logLevel } = this.config;
  const settings = {
    ...this.env,
    BATON_HOME: home.value,
    DATABASE_URL: databaseUrl.value,
    ...(days !== undefined && { BATON_HISTORY_DAYS: String(days) }),
  };
  const log = createLogger({ name: 'cli', logDir: logDir.value, level: logLevel.value, people: null });
  const report = await dropHistory(configOf(readConfig, settings), log, { dryRun });
  await log.flush();
  const ofFate = (fate: string) => report.partitions.filter((partition) => partition.fate === fate).length;
  if (!dryRun) this.record({ history_days: report.historyDays, partitions: ofFate('dropped'), runs: report.runs });
  if (output === 'json') this.screen.json(report);
  else {
    if (report.partitions.length > 0)
      printTable(
        this.screen,
        ['PARTITION', 'UNTIL', 'SIZE', 'WHAT'],
        report.partitions.map((p) => [p.name, timeText(p.until), `${(p.bytes / 1_000_000).toFixed(1)} MB`, p.fate]),
      );
    const kept = report.tasksKept > 0 ? `; ${report.tasksKept} tasks in them live or have ended lately and stay` : '';
    const what = `${report.partitions.length} partitions and ${report.runs} runs`;
    this.screen.note(`${what} are older than ${report.historyDays} days${kept}`);
  }
  if (ofFate('busy') > 0)
    throw new CliFailure(EXIT.failed, `${ofFate('busy')} partitions were in use for too long`, ['try again later']);
}

function configOf(readConfig: Master['readConfig'], settings: Parameters<Master['readConfig']>[0]) {
  try {
    return readConfig(settings);
  } catch (thrown) {
    if ((thrown as Error).name === 'ConfigProblems') throw usageError((thrown as Error).message);
    throw thrown;
  }
}
