import { randomBytes, randomUUID } from 'node:crypto';
import { chmod, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import postgres from 'postgres';

/** A role of the embedded server that may look and not touch. */
export const READER = 'baton_reader';

/**
 * Gives people who look with SQL a login of their own, in the role `baton_readonly` that the migrations made. Its
 * password is made once and kept beside the data, readable by us alone.
 * @param url the superuser's
 * @returns the password
 */
export async function ensureReader(home: string, url: string): Promise<string> {
  const password = await keptPassword(join(home, 'postgres', 'reader-password'));
  const sql = postgres(url, {
    max: 1,
    fetch_types: false,
    onnotice: () => {},
    connection: { application_name: 'baton up' },
  });
  try {
    // Letters and digits only, so that it needs no quoting.
    await sql.unsafe(`
      do $$ begin
        if not exists (select from pg_roles where rolname = '${READER}') then create role ${READER}; end if;
      end $$;
      alter role ${READER} with login password '${password}';
      grant baton_readonly to ${READER};
      alter role ${READER} set default_transaction_read_only = on`);
  } finally {
    await sql.end({ timeout: 5 });
  }
  return password;
}

async function keptPassword(file: string): Promise<string> {
  const kept = (await readFile(file, 'utf8').catch(() => '')).trim();
  if (/^[0-9a-f]{32}$/.test(kept)) {
    await chmod(file, 0o600);
    return kept;
  }
  const password = randomBytes(16).toString('hex');
  const temporary = `${file}.${randomUUID()}`;
  await writeFile(temporary, `${password}\n`, { mode: 0o600 });
  await rename(temporary, file);
  return password;
}
