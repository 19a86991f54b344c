import { blackHole } from './black-hole.ts';
import { blockWorker } from './block-worker.ts';
import { drainWorker } from './drain-worker.ts';
import type { FaultKind } from './fault.ts';
import { holdSnapshot } from './hold-snapshot.ts';
import { killListen } from './kill-listen.ts';
import { killMaster } from './kill-master.ts';
import { killWorker } from './kill-worker.ts';
import { cutAfterCommit, dropClientAnswer, dropWorkerAnswer } from './lose-answers.ts';
import { refuse } from './refuse.ts';
import { resetLinks } from './reset-links.ts';
import { restartMaster, restartWorker } from './restart-gracefully.ts';
import { restartPostgres } from './restart-postgres.ts';
import { slow } from './slow.ts';
import { stall } from './stall.ts';
import { stopMasterLong, stopMasterShortly, stopWorkerLong, stopWorkerShortly } from './stop-process.ts';
import { terminateBackends } from './terminate-backends.ts';

export type { FaultKind, FaultScene } from './fault.ts';

/** All that goes wrong on purpose. Calls that are doubled, repeated and stale are the raw workers' part. */
export const FAULTS: readonly FaultKind[] = [
  killMaster,
  killWorker,
  stopMasterShortly,
  stopMasterLong,
  stopWorkerShortly,
  stopWorkerLong,
  cutAfterCommit,
  dropWorkerAnswer,
  dropClientAnswer,
  resetLinks,
  blackHole,
  stall,
  slow,
  refuse,
  terminateBackends,
  killListen,
  restartPostgres,
  holdSnapshot,
  blockWorker,
  restartMaster,
  restartWorker,
  drainWorker,
];
