import { appendFileSync, readFileSync } from 'node:fs';

/** Something that the code of an attempt did to the world, by the clock of the machine (the database's too). */
export interface Effect {
  /**
   * begin and end: by the process itself. killed: its worker ended it and has seen its end. result: what the attempt hands
   * over, by its worker.
   */
  readonly what: 'begin' | 'end' | 'killed' | 'result';
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  /** Of the process that did it: the worker's own, or that of a child. */
  readonly pid: number;
  readonly worker: string;
  /** Milliseconds since 1970, with fractions. */
  readonly atMs: number;
  /** Of a result: SHA-256 of its JSON, hex. */
  readonly sha256?: string;
  /** Of a beginning: the checkpoint that it goes on from; null: it asked, and there was none. */
  readonly resumedFrom?: number | null;
}

/** The variable that tells a worker where effects are written. */
export const LEDGER_VARIABLE = 'CHAOS_LEDGER';

/** One short line at a time, appended: many processes write at once and none of them is interrupted in a line. */
export function writeEffect(file: string, effect: Effect): void {
  appendFileSync(file, `${JSON.stringify(effect)}\n`);
}

/**
 * The work of a child process, for `bash -c`: $1 task, $2 epoch, $3 attempt, $4 worker, $5 seconds, $6 ledger, $7 what it does
 * when its worker is gone (stdin ends): "stays" or "goes". It needs no process but itself, so that hundreds a second are cheap.
 */
export const CHILD_SCRIPT = `
say() { printf '{"what":"%s","taskId":"%s","epoch":%s,"attempt":%s,"pid":%s,"worker":"%s","atMs":%s.%s}\\n' \
  "$1" "$task" "$epoch" "$attempt" "$$" "$worker" "\${now%???}" "\${now: -3}" >> "$ledger"; }
stamp() { now=\${EPOCHREALTIME/[.,]/}; }
task=$1 epoch=$2 attempt=$3 worker=$4 ledger=$6
stamp; say begin
read -r -t "$5"
if [ $? -le 128 ] && [ "$7" = stays ]; then sleep "$5"; fi
stamp; say end
`;

/** All effects in the order in which they were written. A line that a crash cut is left out. */
export function readEffects(file: string): Effect[] {
  const effects: Effect[] = [];
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    if (line === '') continue;
    try {
      effects.push(JSON.parse(line) as Effect);
    } catch {
      // cut by the end of its process
    }
  }
  return effects;
}

/** What durable functions do: an activation of the code, which replays its journal, and steps, when they begin. */
export interface StepEffect {
  readonly what: 'activation' | 'step';
  readonly runId: string;
  /** Of a step: `<run>/<number>`. */
  readonly stepKey: string;
  readonly pid: number;
  readonly worker: string;
  readonly atMs: number;
}

const stepsOf = (ledger: string) => `${ledger}.steps`;

export function writeStep(ledger: string, effect: StepEffect): void {
  appendFileSync(stepsOf(ledger), `${JSON.stringify(effect)}\n`);
}

export function readSteps(ledger: string): StepEffect[] {
  let text: string;
  try {
    text = readFileSync(stepsOf(ledger), 'utf8');
  } catch {
    return [];
  }
  return text.split('\n').flatMap((line) => {
    try {
      return [JSON.parse(line) as StepEffect];
    } catch {
      return [];
    }
  });
}
