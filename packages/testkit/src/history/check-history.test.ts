import { expect, test } from 'vitest';
import { checkChecker, checkHistory, INVARIANTS, showReport } from './check-history.ts';
import { MAX_VIOLATIONS } from './findings.ts';
import type { History } from './history.ts';
import { MUTATIONS } from './mutations.ts';
import { CAST, soundHistory } from './sound-history.ts';

const named = (history: History): number[] =>
  INVARIANTS.map((check) => check(history)).flatMap((r) => (r.violated > 0 ? [r.invariant] : []));

test('a sound history breaks nothing, and exercises everything', () => {
  const { results, violated } = checkHistory(soundHistory());
  expect(results.map((r) => r.invariant)).toEqual(Array.from({ length: 18 }, (_, i) => i + 1));
  expect(results.flatMap((r) => r.violations)).toEqual([]);
  expect(violated).toBe(0);
  expect(results.filter((r) => r.exercised === 0).map((r) => r.invariant)).toEqual([]);
});

test.each(MUTATIONS)('$breaks: $name', ({ breaks, mutate }) => {
  const history = structuredClone(soundHistory());
  mutate(history);
  expect(named(history)).toEqual(breaks);
});

test('each invariant but the last has a history that breaks it and nothing else', () => {
  const alone = new Set(MUTATIONS.filter((m) => m.breaks.length === 1).map((m) => m.breaks[0]));
  expect([...alone].sort((a, b) => a! - b!)).toEqual(INVARIANTS.map((_, i) => i + 1));
});

test('the checker checks itself, and says so where it fails', () => {
  expect(checkChecker()).toMatchObject({ invariant: 18, exercised: MUTATIONS.length + 1, violated: 0 });
  const blind = checkChecker([{ name: 'nothing at all', breaks: [3], mutate: () => {} }]);
  expect(blind.violations).toEqual([{ message: '"nothing at all" breaks 3; the checker names none' }]);
});

test('a database alone: what was not recorded is named, and not held to be true', () => {
  const whole = soundHistory();
  const bare: History = { ...whole, operations: null, calls: null, effects: null, watchers: null, faults: null };
  const { results, violated } = checkHistory(bare);
  expect(violated).toBe(0);
  for (const number of [1, 5, 14, 17]) {
    const { exercised, notApplicable } = results[number - 1]!;
    expect({ number, exercised, notApplicable }).toEqual({
      number,
      exercised: 0,
      notApplicable: expect.stringContaining('recorded'),
    });
  }
  for (const number of [2, 3, 4, 7, 8, 9, 10, 11, 12]) expect(results[number - 1]!.exercised).toBeGreaterThan(0);
});

test('a grant after expiry and before the sweep is sound, and so is a process that outlives its lost lease', () => {
  const history = soundHistory();
  const { id } = history.database.tasks.find((t) => t.mark === CAST.lost)!;
  const first = history.database.attempts.find((a) => a.taskId === id && a.epoch === 1)!;
  const session = history.database.sessions.find((s) => s.id === first.sessionId)!;
  const second = history.database.attempts.find((a) => a.taskId === id && a.epoch === 2)!;
  expect(session.expiresAtMs).toBeLessThan(second.grantedAtMs);
  history.effects.find((e) => e.taskId === id && e.epoch === 1)!.endedAtMs = null;
  expect(named(history)).toEqual([]);
});

test('events that retention has dropped are not missed', () => {
  const history = soundHistory();
  history.watchers = [];
  const half = history.database.events.length >> 1;
  history.database.eventsSinceMs = history.database.events[half]!.atMs;
  history.database.events = history.database.events.slice(half);
  expect(named(history)).toEqual([]);
});

test('an epoch that an outage carried over its time is not held against the renewal', () => {
  const history = soundHistory();
  const renewal = history.calls.findLast((c) => c.type === 'renew')!;
  const atMs = renewal.invokedAtMs + 60_000;
  history.calls.push({ ...renewal, invokedAtMs: atMs, answeredAtMs: atMs + 1 });
  expect(named(structuredClone(history))).toEqual([5]);
  history.settings.outages.push({ fromMs: renewal.invokedAtMs + 1_000, toMs: atMs - 1_000 });
  expect(named(history)).toEqual([]);
});

test('thousands of violations are counted, the first are named', () => {
  const history = soundHistory();
  const task = history.database.tasks[0]!;
  for (let i = 0; i < 5_000; i++) history.database.tasks.push({ ...task, id: `7${i}`, key: 'same' });
  const keys = checkHistory(history).results[12]!;
  expect(keys).toMatchObject({ violated: 4_999 });
  expect(keys.violations).toHaveLength(MAX_VIOLATIONS);
});

test('the report shows each invariant, how often it was exercised, and what broke it', () => {
  const history = soundHistory();
  const sound = showReport(checkHistory(history)).split('\n');
  expect(sound).toContainEqual(expect.stringMatching(/^ 3 {2}holds +\d+ +0 {2}attempts 1\.\.k/));
  expect(sound.at(-1)).toBe('no violations');
  const broken = structuredClone(history);
  broken.database.attempts[0]!.attempt = 7;
  const report = showReport(checkHistory(broken));
  expect(report).toMatch(/^ 3 {2}BROKEN +\d+ +\d+ {2}attempts 1\.\.k/m);
  expect(report).toContain('epoch 1 is attempt 7, not 1');
});
