import type { Baton } from '@baton/client';
import { land, REPEAT_MS, remember } from '../client.ts';
import { FUNCTIONS, WORKFLOWS } from '../workflows.ts';
import type { Operation } from './operation.ts';

/** A small workflow, or a durable function; half of them with a key, some of those started twice. */
export const startRun: Operation = {
  name: 'start run',
  weight: 6,
  async perform(line) {
    const workflow = line.random.pick([...WORKFLOWS.map(({ name }) => name), ...FUNCTIONS, ...FUNCTIONS]);
    const [keyed, twice, mark] = [line.random.chance(0.6), line.random.chance(0.3), line.nextOp()];
    const key = keyed ? `run-${mark}` : null;
    const options = { input: 7, labels: { mark }, ...(key && { idempotencyKey: key }) };
    const start = async (baton: Baton) => {
      const { answer, value } = await land(line, () => baton.runs.start(workflow, options), keyed ? REPEAT_MS : 0);
      line.recorder.operation({
        type: 'start_run',
        namespace: 'default',
        workflow,
        key,
        body: mark,
        mark,
        ...(value && { runId: value.id }),
        ...answer,
      });
      if (value !== undefined && !value.deduplicated) remember(line.known.runs, value.id);
    };
    await Promise.all(keyed && twice ? [start(line.baton), start(line.other)] : [start(line.baton)]);
  },
};
