/**
 * What to do when a statement fails, decided by SQLSTATE and never by a message's text.
 *
 * The writes that go through here may be repeated without harm: ids are made before the insert, and every write of a worker is fenced.
 */

const MAX_TRIES = 6;

interface SqlError {
  code?: string;
}

function codeOf(error: unknown): string {
  const code = (error as SqlError | null)?.code;
  return typeof code === 'string' ? code : '';
}

/** The row is bad, not the moment: data exception or constraint violation. */
export function isRowError(error: unknown): boolean {
  const code = codeOf(error);
  return code.length === 5 && (code.startsWith('22') || code.startsWith('23'));
}

/** Deadlock, serialization failure, lock not available, cancelled by a timeout. */
export function isContention(error: unknown): boolean {
  return ['40P01', '40001', '55P03', '57014'].includes(codeOf(error));
}

/** The connection is gone or the server is not there (yet, or any more): 08xxx, 57Pxx, and the driver's and Node's own words for it. */
export function isOutage(error: unknown): boolean {
  const code = codeOf(error);
  return (
    code.startsWith('08') ||
    code.startsWith('57P') ||
    code === '53300' ||
    /^(CONNECTION_|CONNECT_TIMEOUT|ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENOTFOUND)/.test(code)
  );
}

/** Runs a repeatable statement again after contention or a lost connection, with full jitter; other errors pass. */
export async function persist<T>(run: () => Promise<T>, random: () => number): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await run();
    } catch (error) {
      if (tries >= MAX_TRIES || !(isContention(error) || isOutage(error))) throw error;
      await new Promise((resolve) => setTimeout(resolve, random() * 50 * 2 ** tries));
    }
  }
}

/**
 * Runs a batch; when one of its rows is bad, halves it until the bad row is alone. `one` says what a bad row is answered with.
 */
export async function bisect<T, R>(
  batch: T[],
  run: (part: T[]) => Promise<R[]>,
  one: (item: T, error: unknown) => R,
): Promise<R[]> {
  try {
    return await run(batch);
  } catch (error) {
    if (!isRowError(error)) throw error;
    if (batch.length === 1) return [one(batch[0]!, error)];
    const middle = batch.length >> 1;
    return [...(await bisect(batch.slice(0, middle), run, one)), ...(await bisect(batch.slice(middle), run, one))];
  }
}
