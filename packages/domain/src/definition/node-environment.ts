import { isRefusedVariable, type TaskEnvironment } from '../task-environment.ts';
import { Fields } from './fields.ts';
import { readTexts, readWords } from './node-program.ts';
import { at, type Problems, quote } from './problem.ts';

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]{0,199}$/;
const HINT = 'letters, digits and _, and no digit in front';

/** Reads `environment` of a node or of `defaults`. */
export function readEnvironment(problems: Problems, node: Fields): TaskEnvironment | undefined {
  const record = node.record('environment');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('environment'), record);
  const pass = fields.has('pass')
    ? readWords(problems, fields.at('pass'), 'pass', fields.raw('pass'), false)
    : undefined;
  for (const [index, name] of (pass ?? []).entries()) {
    if (!VARIABLE.test(name))
      problems.add(at(fields.at('pass'), index), 'INVALID_NAME', `${quote(name)} is no name of a variable`, HINT);
  }
  const set = fields.has('set') ? readTexts(problems, fields.at('set'), 'set', fields.raw('set')) : undefined;
  for (const name of Object.keys(set ?? {})) {
    const place = at(fields.at('set'), name);
    if (!VARIABLE.test(name)) problems.add(place, 'INVALID_NAME', `${quote(name)} is no name of a variable`, HINT);
    else if (isRefusedVariable(name))
      problems.add(place, 'INVALID_NAME', `no task may set ${quote(name)}`, 'it changes what programs do');
  }
  const workingDirectory = fields.text('working_directory');
  if (workingDirectory !== undefined && !workingDirectory.startsWith('/')) {
    const message = `the working directory ${quote(workingDirectory)} is not an absolute path`;
    problems.add(fields.at('working_directory'), 'INVALID_NAME', message);
  }
  fields.refuseUnknown(['pass', 'set', 'working_directory']);
  return {
    ...(pass && { pass }),
    ...(set && { set }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  };
}
