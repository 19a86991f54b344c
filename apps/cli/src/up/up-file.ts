import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isAlive, type ProcessIdentity } from './process-identity.ts';

/** What `baton up` writes about itself into BATON_HOME, for `status`, `stop`, `doctor` and every client of this home. */
export interface UpState extends ProcessIdentity {
  /** ISO 8601. */
  readonly startedAt: string;
  /** Of the master; absent until it serves. */
  readonly url?: string;
  readonly postgres?: UpPostgres;
  readonly children: readonly UpChild[];
  readonly logDir: string;
}

export interface UpPostgres {
  /** False: DATABASE_URL, which is not ours to stop. */
  readonly embedded: boolean;
  readonly port?: number;
  /** For people who look with SQL; holds a password where it is the embedded one. */
  readonly psqlUrl?: string;
}

export interface UpChild extends ProcessIdentity {
  /** master, or the worker's name. */
  readonly name: string;
  /** Where it serves. */
  readonly url?: string;
}

export function upFileOf(home: string): string {
  return join(home, 'up.json');
}

/** The file of this home, whether or not its supervisor lives; undefined when there is none or it is no such file. */
export function readUpState(home: string): UpState | undefined {
  return parse(upFileOf(home));
}

/**
 * Makes the file this process's, unless a supervisor that lives has it. Of several at once one gets it: a name is linked
 * once only. What a dead one left is given back, so that its orphans can be stopped.
 */
export function claimUpFile(
  home: string,
  state: UpState,
): { readonly ok: true; readonly leftBehind?: UpState } | { readonly ok: false; readonly holder: UpState } {
  mkdirSync(home, { recursive: true, mode: 0o755 });
  const file = upFileOf(home);
  let leftBehind: UpState | undefined;
  for (;;) {
    const written = writeBeside(file, state);
    try {
      linkSync(written, file);
      return { ok: true, leftBehind };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    } finally {
      rmSync(written, { force: true });
    }
    const holder = parse(file);
    if (holder !== undefined && isAlive(holder)) return { ok: false, holder };
    leftBehind = holder ?? leftBehind;
    setAside(file, holder);
  }
}

/** Takes a dead supervisor's file away; one that somebody else put there meanwhile is put back. */
function setAside(file: string, dead: UpState | undefined): void {
  const aside = `${file}.${randomUUID()}`;
  try {
    renameSync(file, aside);
  } catch {
    return; // gone already
  }
  const taken = parse(aside);
  if (taken !== undefined && taken.pid !== dead?.pid) {
    try {
      linkSync(aside, file);
    } catch {
      // A third one has it by now.
    }
  }
  rmSync(aside, { force: true });
}

/** Replaces the file; readers see the old one or the new one whole. */
export function updateUpFile(home: string, state: UpState): void {
  renameSync(writeBeside(upFileOf(home), state), upFileOf(home));
}

/** Removes the file if it is this supervisor's. */
export function removeUpFile(home: string, { pid }: ProcessIdentity): void {
  if (readUpState(home)?.pid === pid) rmSync(upFileOf(home), { force: true });
}

function writeBeside(file: string, state: UpState): string {
  const temporary = `${file}.${randomUUID()}`;
  writeFileSync(temporary, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  return temporary;
}

function parse(file: string): UpState | undefined {
  try {
    const value = JSON.parse(readFileSync(file, 'utf8')) as Partial<UpState> | null;
    if (typeof value?.pid !== 'number' || !Array.isArray(value.children)) return undefined;
    return value as UpState;
  } catch {
    return undefined;
  }
}
