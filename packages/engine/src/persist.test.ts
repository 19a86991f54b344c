import { describe, expect, it } from 'vitest';
import { bisect, isOutage, isRowError, persist } from './persist.ts';

const sqlError = (code: string) => Object.assign(new Error(`text does not matter ${code}`), { code });

describe('a statement that fails', () => {
  it('is repeated after a deadlock, a serialization failure or a lost connection', async () => {
    for (const code of ['40P01', '40001', 'CONNECTION_CLOSED', '57P01', 'ECONNRESET', '08006']) {
      let calls = 0;
      const value = await persist(
        async () => {
          if (++calls < 3) throw sqlError(code);
          return calls;
        },
        () => 0,
      );
      expect(value, code).toBe(3);
    }
  });

  it('is not repeated when the row or the statement is wrong', async () => {
    for (const code of ['22P05', '23505', '42601', '']) {
      let calls = 0;
      await expect(
        persist(
          async () => {
            calls++;
            throw sqlError(code);
          },
          () => 0,
        ),
      ).rejects.toThrow();
      expect(calls, code).toBe(1);
    }
  });

  it('tells row errors and outages apart by code alone', () => {
    expect(isRowError(sqlError('22021'))).toBe(true);
    expect(isRowError(sqlError('2202'))).toBe(false);
    expect(isOutage(sqlError('CONNECT_TIMEOUT'))).toBe(true);
    expect(isOutage(new Error('connection refused'))).toBe(false);
  });
});

describe('one bad row in a batch', () => {
  it('is found and answered alone; the rest goes through', async () => {
    const done: number[] = [];
    const results = await bisect(
      [1, 2, 3, 4, 5, 6, 7],
      async (part) => {
        if (part.includes(4)) throw sqlError('22P05');
        done.push(...part);
        return part.map((n) => `ok ${n}`);
      },
      (n) => `bad ${n}`,
    );
    expect(results).toEqual(['ok 1', 'ok 2', 'ok 3', 'bad 4', 'ok 5', 'ok 6', 'ok 7']);
    expect(done).toEqual([1, 2, 3, 5, 6, 7]);
  });

  it('is not looked for when the failure is of another kind', async () => {
    await expect(
      bisect(
        [1, 2],
        async () => {
          throw sqlError('57014');
        },
        () => 0,
      ),
    ).rejects.toMatchObject({ code: '57014' });
  });
});
