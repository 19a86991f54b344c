import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { identify } from './process-identity.ts';
import { claimUpFile, readUpState, removeUpFile, type UpState, updateUpFile } from './up-file.ts';

const self: UpState = { ...identify(process.pid), startedAt: '2026-11-22T00:00:00Z', children: [], logDir: 'logs' };
/** An id that lives, of a process that started at another time. */
const dead: UpState = { ...self, startTicks: 1 };

function home(): string {
  const made = mkdtempSync(join(tmpdir(), 'baton-up-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test('the first one gets the file, another one is told who has it', () => {
  const place = join(home(), 'new');
  expect(claimUpFile(place, self)).toEqual({ ok: true, leftBehind: undefined });
  expect(claimUpFile(place, { ...self, logDir: 'other' })).toMatchObject({ ok: false, holder: self });
  updateUpFile(place, { ...self, url: 'http://127.0.0.1:1' });
  expect(readUpState(place)?.url).toBe('http://127.0.0.1:1');
  removeUpFile(place, self);
  expect(readdirSync(place)).toEqual([]);
});

test('what a dead one left is taken over and given back; a broken file counts for nothing', () => {
  const place = home();
  writeFileSync(join(place, 'up.json'), JSON.stringify(dead));
  expect(claimUpFile(place, self)).toEqual({ ok: true, leftBehind: dead });
  expect(readdirSync(place)).toEqual(['up.json']);
  writeFileSync(join(place, 'up.json'), '{"pid":');
  expect(claimUpFile(place, self)).toEqual({ ok: true, leftBehind: undefined });
  expect(JSON.parse(readFileSync(join(place, 'up.json'), 'utf8'))).toEqual(self);
});

test('nobody removes the file of another one', () => {
  const place = home();
  claimUpFile(place, self);
  removeUpFile(place, { pid: self.pid + 1 });
  expect(readUpState(place)).toEqual(self);
});
