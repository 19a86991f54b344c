/** A process of its own that migrates the database it is given as soon as it reads a line: for tests that start several at once. */
import { createInterface } from 'node:readline';
import { loadMigrations } from '../node.ts';
import { openSql } from './connection.ts';
import { migrate } from './migrate.ts';

const sql = openSql(process.argv[2]!, { max: 1 });
await sql.unsafe('select 1');
console.log('connected');
for await (const _ of createInterface({ input: process.stdin })) break;
console.log(JSON.stringify(await migrate(sql, loadMigrations())));
await sql.end({ timeout: 5 });
process.exit(0);
