import postgres from 'postgres';
import { type Finding, ok, problem, skipped, wordsOf } from './finding.ts';

/** More is worth a word: due times are Postgres's, and logs of machines are compared by eye. */
const MOST_SKEW_MS = 2_000;

/**
 * This machine's clock against that of Postgres, which is the one that counts.
 * @param url of a role that may connect; empty: it is not known here
 */
export async function checkClock(url: string, now: () => number): Promise<Finding> {
  if (url === '') return skipped('clock', 'neither DATABASE_URL nor a `baton up` of this home says where Postgres is');
  const sql = postgres(url, { max: 1, fetch_types: false, connect_timeout: 3, onnotice: () => {} });
  try {
    await sql`select 1`; // connecting takes its time, which is not to be measured
    const before = now();
    const [row] = await sql`select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms`;
    // It was read half-way between.
    const skewMs = Math.round((before + now()) / 2 - Number(row!.ms));
    const words = `this machine is ${Math.abs(skewMs)} ms ${skewMs < 0 ? 'behind' : 'ahead of'} Postgres`;
    if (Math.abs(skewMs) <= MOST_SKEW_MS) return ok('clock', words);
    return problem('clock', words, 'set the clocks by NTP, such as: timedatectl set-ntp true');
  } catch (error) {
    return skipped('clock', `Postgres does not answer: ${wordsOf(error)}`);
  } finally {
    await sql.end({ timeout: 1 });
  }
}
