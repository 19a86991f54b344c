import { setTimeout as sleep } from 'node:timers/promises';
import { land, REPEAT_MS } from '../client.ts';
import { SIGNALS } from '../signals.ts';
import type { Operation } from './operation.ts';

/** Starts a function that waits for signals and sends them: one after the other, through two masters, some of them twice. */
export const signalRun: Operation = {
  name: 'signal run',
  weight: 4,
  async perform(line) {
    const mark = line.nextOp();
    const parts = Array.from({ length: SIGNALS }, () => ({
      pauseMs: line.random.next() ** 2 * 1_500,
      twice: line.random.chance(0.3),
      baton: line.random.chance(0.5) ? line.baton : line.other,
    }));
    const key = `relay-${mark}`;
    const { answer, value } = await land(
      line,
      () => line.baton.runs.start('relay', { input: null, labels: { mark }, idempotencyKey: key }),
      REPEAT_MS,
    );
    line.recorder.operation({
      type: 'start_run',
      namespace: 'default',
      workflow: 'relay',
      key,
      body: mark,
      mark,
      ...(value && { runId: value.id }),
      ...answer,
    });
    if (value === undefined) return;
    const runId = value.id;
    for (const [i, { pauseMs, twice, baton }] of parts.entries()) {
      await sleep(pauseMs);
      const payload = `${mark} ${i}`;
      const send = () => baton.runs.signal(runId, 'part', payload, { idempotencyKey: payload });
      const sent = await Promise.all(Array.from({ length: twice ? 2 : 1 }, () => land(line, send, REPEAT_MS / 2)));
      const acknowledged = sent.filter((each) => each.answer.outcome === 'ok').map((each) => each.answer.answeredAtMs!);
      line.recorder.signals.push({
        runId,
        payload,
        invokedAtMs: sent[0]!.answer.invokedAtMs,
        acknowledgedAtMs: acknowledged.length > 0 ? Math.min(...acknowledged) : null,
      });
    }
  },
};
