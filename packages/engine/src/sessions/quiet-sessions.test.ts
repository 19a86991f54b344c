import { model } from '@baton/store/testing';
import { expect, it } from 'vitest';
import { createQuietSessions, type QuietState } from './quiet-sessions.ts';

const LEASE_MS = 30_000;
const BEAT_MS = 10_000;
const WRITE_MS = 6_000;

/** A master's book over the tables' model, in virtual time; another master sweeps. */
function stage() {
  let now = 1_000_000;
  let number = 0n;
  const db = new model.ModelDatabase(() => now);
  const registration = {
    namespaceId: 1,
    name: 'w',
    instanceId: 'w',
    capabilities: {},
    serviceUrl: '',
    version: '',
    metadata: {},
    leaseTtlMs: LEASE_MS,
  };
  const watch = () => {
    const began = now;
    return () => now - began;
  };
  const book = () => createQuietSessions(LEASE_MS, watch);
  model.openSession(db, { sessionId: '7', ...registration });
  let master = book();
  const renew = () => {
    const since = watch();
    const as = model.renewSessions(db, [
      { sessionId: '7', leaseTtlMs: LEASE_MS, metrics: null, number: String(number) },
    ]);
    master.renewed('7', since, as.get('7') ?? null);
    return as.has('7');
  };
  renew();
  return {
    db,
    renew,
    session: () => db.sessions.get('7')!,
    pass(ms: number) {
      for (const until = now + ms; now < until; ) {
        now = Math.min(until, now + 1_000);
        model.sweepSessions(db);
      }
    },
    now: () => now,
    beat: (metrics: Record<string, number> | null = null) =>
      master.answer({ sessionId: '7', number: ++number, metrics }),
    write() {
      const due = master.due();
      const over = master.written(due, model.renewSessions(db, due));
      return { due, over };
    },
    takeWithoutWriting: () => master.due(),
    failed: (batch: ReturnType<typeof master.due>) => master.failed(batch),
    told: (as: QuietState | null) => master.renewed('7', watch(), as),
    /** It dies, and another comes in its place. */
    restart() {
      master = book();
    },
  };
}

it('tells what the row has left, and goes on without a statement for each heartbeat', () => {
  const { beat, pass, write, session, now } = stage();
  for (let round = 0; round < 50; round++) {
    pass(BEAT_MS - WRITE_MS);
    const leftMs = beat({ cpu: round });
    expect(leftMs).toBeGreaterThanOrEqual(LEASE_MS / 2);
    expect(session().expiresAtMs - now()).toBeGreaterThanOrEqual(leftMs!);
    pass(WRITE_MS);
    expect(write().due).toEqual([
      { sessionId: '7', leaseTtlMs: LEASE_MS, ageMs: WRITE_MS, metrics: { cpu: round }, number: String(round + 1) },
    ]);
    // As of when it was heard.
    expect(session().expiresAtMs).toBe(now() - WRITE_MS + LEASE_MS);
  }
});

it('a session is not ended before what its worker was told, though the master dies right after it told it', () => {
  for (let afterMs = 0; afterMs <= LEASE_MS / 2; afterMs += 500) {
    const { beat, pass, session, now, restart } = stage();
    pass(afterMs);
    const untilMs = now() + beat()!;
    restart();
    pass(untilMs - now());
    expect(session().state).toBe('active');
    pass(2_000);
    expect(session().state).toBe('closed');
  }
});

it('a session with less than half of its lease is for Postgres to answer, whatever was heard and not written', () => {
  const { beat, pass, renew } = stage();
  pass(LEASE_MS / 2 - 1_000);
  expect(beat()).not.toBeNull();
  pass(2_000);
  expect(beat()).toBeNull();
  expect(renew()).toBe(true);
  expect(beat()).toBe(LEASE_MS);
});

it('writes that fail add nothing: Postgres is asked', () => {
  const { beat, failed, takeWithoutWriting } = stage();
  expect(beat()).toBe(LEASE_MS);
  failed(takeWithoutWriting());
  expect(beat()).toBeNull();
});

it('finds out with its next write that another master ended the session', () => {
  const { beat, db, write } = stage();
  expect(beat()).toBe(LEASE_MS);
  model.closeSession(db, '7', 'left');
  // Heard, and what was told is what the row had.
  expect(beat()).toBe(LEASE_MS);
  expect(write().over).toEqual(['7']);
  expect(beat()).toBeNull();
});

it.each([
  ['holds something', { count: 1 }],
  ['drains', { state: 'draining' }],
  ['is to end', { shutdown: true }],
  ['is asked to hand back', { recall: 2 }],
  ['is over', null],
] as const)('a session that %s is not answered from here', (_, as) => {
  const { beat, told } = stage();
  told(as && { state: 'active', shutdown: false, count: 0, recall: 0, beat: '0', ...as });
  expect(beat()).toBeNull();
});

it('a heartbeat that comes late or twice renews nothing', () => {
  const { beat, told, write } = stage();
  told({ state: 'active', shutdown: false, count: 0, recall: 0, beat: '100' });
  expect(beat()).toBe(LEASE_MS);
  expect(write().due).toEqual([]);
});
