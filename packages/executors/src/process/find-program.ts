import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, isAbsolute, join, resolve } from 'node:path';

/** The path of a program, as a shell would find it: by PATH where its name has no slash, else below the working directory. */
export function findProgram(name: string, path: string, workingDirectory: string): string | undefined {
  if (name.includes('/')) {
    const full = isAbsolute(name) ? name : resolve(workingDirectory, name);
    return isProgram(full) ? full : undefined;
  }
  return path
    .split(delimiter)
    .filter((directory) => isAbsolute(directory))
    .map((directory) => join(directory, name))
    .find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
