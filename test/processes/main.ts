// npm run kills [-- --kills 100 --seed 1]: a training loop that is killed at random must end as it does undisturbed.
// Exit codes: 0 it does, 1 it does not.
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { startTestPostgres, testDatabase } from '@baton/testkit';
import { killAtRandom } from './kill-at-random.ts';

const { values } = parseArgs({ options: { kills: { type: 'string' }, seed: { type: 'string' } } });
const kills = Number(values.kills ?? 100);
const seed = Number(values.seed ?? Math.floor(Math.random() * 2 ** 31));
process.stderr.write(`seed ${seed}\n`);
const postgres = await startTestPostgres();
try {
  await using database = await testDatabase({ adminUrl: postgres.url });
  const report = await killAtRandom({
    kills,
    seed,
    databaseUrl: database.url,
    onKill: (text) => process.stderr.write(`${text}\n`),
  });
  const same = isDeepStrictEqual(report.result, report.undisturbed);
  process.stdout.write(`${JSON.stringify({ ...report, seed, same }, null, 2)}\n`);
  process.exitCode = same && report.kills === kills && report.leftAlive.length === 0 ? 0 : 1;
} finally {
  await postgres.stop();
}
