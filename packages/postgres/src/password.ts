import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import { chmod, open, readFile, rename } from 'node:fs/promises';
import { EmbeddedPostgresError, errnoOf } from './errors.ts';

/** The password kept beside the data, or undefined if there is none. */
export async function readPassword(file: string): Promise<string | undefined> {
  try {
    const password = (await readFile(file, 'utf8')).trim();
    return password === '' ? undefined : password;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw new EmbeddedPostgresError('NO_PERMISSION', `cannot read ${file}`, {
      hint: 'the server was set up by another user: run as that user',
      cause: error,
    });
  }
}

/** Makes a random password and keeps it in `file`, readable by us alone. */
export async function createPassword(file: string): Promise<string> {
  const password = randomBytes(24).toString('base64url');
  await writePrivate(file, `${password}\n`);
  return password;
}

async function writePrivate(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`;
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await chmod(temporary, 0o600);
  await rename(temporary, file);
}

/** What PostgreSQL stores for a password (RFC 5803): it can be written into a statement without telling the secret. */
export function scramVerifier(password: string): string {
  const iterations = 4096;
  const salt = randomBytes(16);
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const clientKey = createHmac('sha256', salted).update('Client Key').digest();
  const storedKey = createHash('sha256').update(clientKey).digest('base64');
  const serverKey = createHmac('sha256', salted).update('Server Key').digest('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}
