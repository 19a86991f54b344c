/**
 * A program of its own for tests: starts (or joins) PostgreSQL on a directory, says so in one line of JSON, and stays
 * until it is killed.
 */
import { startPostgres } from './start.ts';

const [dataDir, ...flags] = process.argv.slice(2);
const server = await startPostgres({ dataDir: dataDir! });
const { url, port, pid, adopted } = server;
if (flags.includes('--stop')) await server.stop();
console.log(JSON.stringify({ url, port, pid, adopted }));
if (!flags.includes('--stop')) setInterval(() => {}, 60_000);
