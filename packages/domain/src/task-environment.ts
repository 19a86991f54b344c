/** What a task finds around it where it runs, beside what every task finds. */
export interface TaskEnvironment {
  /** Names of the worker's own variables that are handed on, where its allow-list names them too. */
  readonly pass?: readonly string[];
  /** Variables by name. Kept with the task, and shown. */
  readonly set?: Readonly<Record<string, string>>;
  /** On the worker; absolute. */
  readonly workingDirectory?: string;
}

/**
 * Variables by which a loader, a shell or an interpreter runs other code than the task's own, and those that are Baton's. Who may
 * submit a task may not, by that alone, change what a program of the worker's machine does.
 */
const REFUSED =
  /^(?:LD_.*|DYLD_.*|BATON_.*|BASH_ENV|ENV|BASH_FUNC_.*|SHELLOPTS|PROMPT_COMMAND|IFS|NODE_OPTIONS|PYTHONSTARTUP|PERL5OPT|RUBYOPT|GCONV_PATH|CUDA_VISIBLE_DEVICES)$/;

/** Whether no task may set this variable. */
export function isRefusedVariable(name: string): boolean {
  return REFUSED.test(name);
}

export function isEmptyEnvironment({ pass, set, workingDirectory }: TaskEnvironment): boolean {
  return (pass?.length ?? 0) === 0 && Object.keys(set ?? {}).length === 0 && !workingDirectory;
}
