import { testDatabase } from '@baton/testkit';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { openSql, type Sql } from './connection.ts';
import { base64, booleans, byteas, bytesOfBase64, jsons, numbers, packed, texts, unpacked } from './literals.ts';

let sql: Sql;
let drop: () => Promise<void>;

beforeAll(async () => {
  const db = await testDatabase();
  sql = openSql(db.url, { max: 1 });
  drop = async () => {
    await sql.end();
    await db.drop();
  };
});
afterAll(() => drop());

async function roundTrip(type: string, literal: string): Promise<unknown> {
  const [row] = await sql.unsafe(`select to_jsonb($1::${type}) as v`, [literal]);
  return row!.v;
}

describe('array literals reach Postgres as what they were', () => {
  it('numbers and nulls', async () => {
    expect(await roundTrip('bigint[]', numbers([1, null, '-7', 0]))).toEqual([1, null, -7, 0]);
    expect(await roundTrip('bigint[]', numbers([]))).toEqual([]);
  });

  it('text of every unkind sort', async () => {
    const unkind = ['', 'NULL', 'null', '"', '\\', 'a,b', '{x}', "o'clock", 'new\nline', '日本 🏃', ' lead', '\\x41'];
    expect(await roundTrip('text[]', texts([...unkind, null]))).toEqual([...unkind, null]);
  });

  it('JSON documents', async () => {
    const docs = [{ a: '"\\\n' }, [1, null], null];
    const [row] = await sql.unsafe(
      'select jsonb_agg(d::jsonb order by n) as v from unnest($1::text[]) with ordinality u(d, n)',
      [jsons(docs)],
    );
    expect(row!.v).toEqual(docs);
  });

  it('bytes', async () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    const [row] = await sql.unsafe('select b[1] as a, b[2] is null as n, b[3] as e from (select $1::bytea[] as b) x', [
      byteas([all, null, new Uint8Array()]),
    ]);
    expect([...(row!.a as Uint8Array)]).toEqual([...all]);
    expect(row!.n).toBe(true);
    expect((row!.e as Uint8Array).length).toBe(0);
  });

  const all = Uint8Array.from({ length: 256 }, (_, i) => i);
  const unkind = [all, null, new Uint8Array(), Uint8Array.of(0), null, all];

  it.each([
    ['of many lengths', unkind],
    ['of one length', [all, all, null, all]],
    ['of which there is one', [all]],
    ['of which the first is none', [null, new Uint8Array(), all]],
    ['of which all are none', [null, null]],
    ['that are empty', [new Uint8Array(), new Uint8Array()]],
  ])('bytes %s, packed', async (_, values) => {
    const [bytes, ends, lengths] = packed(values);
    const rows = await sql.unsafe(
      `select ${unpacked('$2', 'ends', 'length')} as bytes
       from (select n, ends, coalesce(length, ($4::integer[])[1]) as length
             from unnest($1::integer[], $3::integer[], $4::integer[]) i(n, ends, length)) i order by n`,
      [numbers(values.map((_, n) => n)), bytes, ends, lengths],
    );
    expect(rows.map((row) => row.bytes && [...(row.bytes as Uint8Array)])).toEqual(values.map((v) => v && [...v]));
  });

  it('bytes as base64, with a runtime that knows Buffer and with one that does not', async () => {
    const [row] = await sql.unsafe(`select encode(decode($1, 'base64'), 'base64') as t`, [base64(all)]);
    // Postgres breaks lines.
    expect(row!.t).toContain('\n');
    expect([...bytesOfBase64(row!.t as string)]).toEqual([...all]);
    vi.stubGlobal('Buffer', undefined);
    vi.resetModules();
    const edge = await import('./literals.ts');
    vi.unstubAllGlobals();
    expect(edge.packed(unkind)).toEqual(packed(unkind));
    expect([...edge.bytesOfBase64(row!.t as string)]).toEqual([...all]);
  });

  it('booleans', async () => {
    expect(await roundTrip('boolean[]', booleans([true, false]))).toEqual([true, false]);
  });
});
