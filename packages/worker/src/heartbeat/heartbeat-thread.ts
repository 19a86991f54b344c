// The entry of the heartbeat's own thread: it shares no loop and no connection with the code that tasks run.
import { parentPort, workerData } from 'node:worker_threads';
import { createLoadMeter } from '@baton/hardware';
import { connectMasters } from '../calls/connection.ts';
import type { HeartbeatCommand, HeartbeatMessage, HeartbeatThreadData } from './heartbeat.ts';
import { HeartbeatLoop } from './heartbeat-loop.ts';
import { SharedState } from './shared-state.ts';

const data: HeartbeatThreadData = workerData;
const port = parentPort!;
const connection = connectMasters(data.connection);
const say = (message: HeartbeatMessage) => port.postMessage(message);

const loop = new HeartbeatLoop({
  namespace: data.namespace,
  call: (request, timeoutMs) => connection.master.heartbeat(request, { timeoutMs }),
  masters: connection,
  reset: connection.reset,
  shared: new SharedState(data.shared),
  load: createLoadMeter(),
  stampEveryMs: data.stampEveryMs,
  emit: say,
});

port.on('message', (command: HeartbeatCommand) => {
  switch (command.type) {
    case 'begin':
      loop.begin(command.session);
      break;
    case 'end':
      loop.end();
      break;
    case 'held':
      loop.sendHeld(command.sessionId, command.held);
      break;
    case 'said':
      loop.say(command.taskId, command.epoch, command.message);
      break;
    case 'health':
      loop.noteHealth(command.health, command.judgedAtMs);
      break;
    case 'beat':
      loop.beat();
      break;
  }
});
say({ type: 'ready' });
