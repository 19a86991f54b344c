import { expect, test } from 'vitest';
import { monotonicMs } from '../clock.ts';
import { leaseFingerprint } from './shared-state.ts';
import { SignBoard } from './sign-board.ts';
import { SignReport } from './sign-report.ts';

/** A board as the main thread writes it, and the report of a heartbeat on the same memory. */
function open(seats = 4) {
  const board = new SignBoard(seats);
  const report = new SignReport(new SignBoard(board.buffer));
  const sit = (taskId: string, { epoch = 1, agoMs = 0, timeoutMs = 0 } = {}) =>
    board.sit(leaseFingerprint(taskId, epoch), epoch, performance.now() - agoMs, timeoutMs);
  return { board, report, sit };
}

test('a task with a progress timeout is in every heartbeat, with how long it has been silent', () => {
  const { board, report, sit } = open();
  const seat = sit('9007199254740993', { epoch: 4_000_000_000, agoMs: 5_000, timeoutMs: 2_000 });
  sit('7');
  const [sign, ...more] = report.take(monotonicMs()).signs;
  expect(more).toEqual([]);
  expect(sign).toMatchObject({
    taskId: '9007199254740993',
    epoch: 4_000_000_000,
    progressTimeoutMs: 2_000n,
    fraction: -1,
    message: '',
  });
  expect(Number(sign!.silentMs)).toBeGreaterThanOrEqual(5_000);
  expect(Number(sign!.silentMs)).toBeLessThan(5_500);
  board.sign(seat, performance.now() - 100);
  const silentMs = Number(report.take(monotonicMs()).signs[0]!.silentMs);
  expect(silentMs).toBeGreaterThanOrEqual(99);
  expect(silentMs).toBeLessThan(600);
});

test('what a task says goes once, and again only when the heartbeat was not accepted or it said something else', () => {
  const { board, report, sit } = open();
  const seat = sit('7');
  expect(report.take(monotonicMs()).signs).toEqual([]);
  board.progress(seat, 0.5);
  report.say('7', 1, 'half');
  const said = () => report.take(monotonicMs()).signs.map(({ fraction, message }) => ({ fraction, message }));
  expect(said()).toEqual([{ fraction: 0.5, message: 'half' }]);
  const lost = report.take(monotonicMs());
  // Said while the heartbeat is under way: not what it brings.
  report.say('7', 1, 'half and a bit');
  lost.accepted();
  expect(said()).toEqual([{ fraction: 0.5, message: 'half and a bit' }]);
  report.take(monotonicMs()).accepted();
  expect(said()).toEqual([]);
  board.progress(seat, 0.75);
  expect(said()).toEqual([{ fraction: 0.75, message: '' }]);
});

test('that work has begun is said once, of work that lasts', () => {
  const { board, report, sit } = open();
  const seat = sit('7', { agoMs: 50 });
  sit('8', { agoMs: 3_000, epoch: 2 });
  const started = () =>
    report.take(monotonicMs()).started.map(({ taskId, epoch, started }) => ({ taskId, epoch, started }));
  expect(started()).toEqual([{ taskId: '8', epoch: 2, started: true }]);
  const report1 = report.take(monotonicMs());
  expect(Number(report1.started[0]!.ranMs)).toBeGreaterThanOrEqual(3_000);
  report1.accepted();
  expect(started()).toEqual([]);
  // The same task under another epoch, in the seat of another: news.
  board.leave(seat);
  sit('8', { agoMs: 200, epoch: 3 });
  expect(started()).toEqual([{ taskId: '8', epoch: 3, started: true }]);
});

test('a board that is full leaves the rest out, and seats are taken again', () => {
  const { board, report, sit } = open(2);
  const seats = ['1', '2', '3'].map((id) => sit(id, { timeoutMs: 1_000 }));
  expect(seats).toEqual([0, 1, -1]);
  board.sign(-1, 0);
  board.progress(-1, 1);
  board.leave(seats[0]!);
  board.leave(-1);
  sit('4', { timeoutMs: 1_000 });
  expect(report.take(monotonicMs()).signs.map(({ taskId }) => taskId)).toEqual(['4', '2']);
});
