import { type Bounds, Fields, readRecord, readText } from './fields.ts';
import { describeValue, type JsonObject, type JsonValue, setOwnValue } from './json.ts';
import { MAX_TIMEOUT_SECONDS, type ProgramExecutorType } from './model.ts';
import { at, type Place, type Problems, quote } from './problem.ts';

/** How one setting is written in a file, and what it is called in the contract. */
export interface Setting {
  readonly as: string;
  readonly is:
    | 'text'
    | 'flag'
    /** A list of texts, each as it stands; the empty one too. */
    | 'words'
    | 'map'
    | 'codes'
    | 'mounts'
    /** Seconds in the file, milliseconds in the contract. */
    | 'seconds'
    | 'whole'
    | 'number'
    | readonly string[];
  readonly bounds?: Bounds;
  readonly required?: boolean;
  readonly about: string;
}

const bytes = { min: 0, max: 2 ** 50, integer: true };
const grace = { min: 0, max: 3_600 };
const exit = { min: 0, max: 255, integer: true };
const outputs = ['protocol', 'stdout_json', 'stdout', 'file'];

const ends: Readonly<Record<string, Setting>> = {
  stdin: { as: 'stdin', is: 'flag', about: 'Write the input to its standard input.' },
  output: { as: 'output', is: outputs, about: 'Where its output is. Default: protocol.' },
  output_bytes: { as: 'outputBytes', is: 'flag', about: 'Read a file’s output as bytes and not as JSON.' },
  stop_grace_seconds: { as: 'stopGraceMs', is: 'seconds', bounds: grace, about: 'From SIGTERM to SIGKILL. Default 5.' },
  permanent_exit_codes: {
    as: 'permanentExitCodes',
    is: 'codes',
    bounds: exit,
    about: 'Exit codes after which no further attempt makes sense.',
  },
  max_log_bytes: {
    as: 'maxLogBytes',
    is: 'whole',
    bounds: { min: 0, max: 2 ** 30, integer: true },
    about: 'Of what it prints, what is kept. Default 16 MiB.',
  },
};

/** The settings of each executor, by their names in files. */
export const PROGRAM_SETTINGS: Readonly<Record<ProgramExecutorType, Readonly<Record<string, Setting>>>> = {
  process: {
    command: {
      as: 'command',
      is: 'words',
      required: true,
      about: 'The program and its arguments. No shell reads them.',
    },
    ...ends,
    memory_bytes: { as: 'memoryBytes', is: 'whole', bounds: bytes, about: 'Resident memory of all its processes.' },
    cpu_time_seconds: {
      as: 'cpuTimeMs',
      is: 'seconds',
      bounds: { min: 0, max: 4_294_967 },
      about: 'Processor time of all its processes.',
    },
    keep_warm: { as: 'keepWarm', is: 'flag', about: 'Keep the program for the next task of the same command.' },
    warm_tasks: {
      as: 'warmTasks',
      is: 'whole',
      bounds: { min: 0, max: 1_000_000, integer: true },
      about: 'A warm program ends after so many tasks. Default 100.',
    },
    warm_idle_seconds: {
      as: 'warmIdleMs',
      is: 'seconds',
      bounds: { min: 0, max: 86_400 },
      about: 'A warm program without a task ends after this time. Default 60.',
    },
    warm_memory_bytes: {
      as: 'warmMemoryBytes',
      is: 'whole',
      bounds: bytes,
      about: 'A warm program ends after a task that left it with more resident memory.',
    },
  },
  http: {
    url: { as: 'url', is: 'text', required: true, about: 'http or https.' },
    method: { as: 'method', is: ['POST', 'PUT', 'PATCH', 'GET', 'DELETE'], about: 'Default POST.' },
    headers: { as: 'headers', is: 'map', about: 'Sent as they are; no place for secrets.' },
    secret_headers: { as: 'secretHeaders', is: 'map', about: 'Headers whose values are variables of the worker.' },
    body: { as: 'body', is: ['input', 'envelope'], about: 'What is sent. Default: input.' },
    max_redirects: {
      as: 'maxRedirects',
      is: 'whole',
      bounds: { min: 0, max: 10, integer: true },
      about: 'Redirects that are followed. Default 0.',
    },
    max_response_bytes: {
      as: 'maxResponseBytes',
      is: 'whole',
      bounds: { min: 0, max: 104_857_600, integer: true },
      about: 'Of the response.',
    },
    permanent_statuses: {
      as: 'permanentStatuses',
      is: 'codes',
      bounds: { min: 300, max: 599, integer: true },
      about: 'Statuses after which no further attempt makes sense.',
    },
    poll_interval_seconds: {
      as: 'pollIntervalMs',
      is: 'seconds',
      bounds: { min: 0, max: 3_600 },
      about: 'How often a function that answered 202 with a Location is asked there again.',
    },
  },
  container: {
    image: { as: 'image', is: 'text', required: true, about: 'The image, with a tag or a digest.' },
    command: { as: 'command', is: 'words', about: 'Default: the image’s.' },
    entrypoint: { as: 'entrypoint', is: 'words', about: 'Default: the image’s.' },
    mounts: { as: 'mounts', is: 'mounts', about: 'Directories of the worker’s machine, or volumes.' },
    cpus: { as: 'cpus', is: 'number', bounds: { min: 0, max: 10_000 }, about: 'Processors.' },
    memory_bytes: { as: 'memoryBytes', is: 'whole', bounds: bytes, about: 'Its memory.' },
    shm_bytes: { as: 'shmBytes', is: 'whole', bounds: bytes, about: 'Its shared memory, /dev/shm.' },
    pids_limit: {
      as: 'pidsLimit',
      is: 'whole',
      bounds: { min: 0, max: 4_194_304, integer: true },
      about: 'Processes and threads.',
    },
    pull_policy: { as: 'pullPolicy', is: ['if_not_present', 'always', 'never'], about: 'Default: if_not_present.' },
    registry_secret: { as: 'registrySecret', is: 'text', about: 'A variable of the worker: user:password.' },
    network: { as: 'network', is: 'text', about: 'none, bridge, host or a name. Default: bridge.' },
    user: { as: 'user', is: 'text', about: 'Default: the image’s.' },
    read_only: { as: 'readOnly', is: 'flag', about: 'Its own file system is read-only.' },
    platform: { as: 'platform', is: 'text', about: 'os/architecture. Default: the machine’s.' },
    ...ends,
    without_devices: { as: 'withoutDevices', is: 'flag', about: 'It does not see the devices that the task leased.' },
  },
};

/** What `settings` say in a file, as the contract's JSON. Every problem is reported. */
export function readProgram(
  problems: Problems,
  node: Fields,
  type: ProgramExecutorType,
): { readonly type: ProgramExecutorType; readonly config: JsonObject } | undefined {
  const record = node.record(type);
  if (!record) return undefined;
  const fields = new Fields(problems, node.at(type), record);
  const settings = PROGRAM_SETTINGS[type];
  const config: Record<string, JsonValue> = {};
  for (const [name, setting] of Object.entries(settings)) {
    if (setting.required && !fields.require(name)) continue;
    if (!fields.has(name)) continue;
    const value = readSetting(problems, fields, name, setting);
    if (value !== undefined) config[setting.as] = value;
  }
  fields.refuseUnknown(Object.keys(settings));
  if (type === 'http' && typeof config.url === 'string' && !/^https?:\/\/[^\x00-\x20\x7f]+$/.test(config.url)) {
    problems.add(fields.at('url'), 'MALFORMED_ADDRESS', `${quote(config.url)} is no http or https address`);
  }
  return { type, config };
}

function readSetting(problems: Problems, fields: Fields, name: string, setting: Setting): JsonValue | undefined {
  const { is, bounds } = setting;
  const place = fields.at(name);
  switch (is) {
    case 'text':
      return fields.text(name);
    case 'flag': {
      const value = fields.raw(name);
      if (typeof value === 'boolean') return value;
      problems.add(place, 'WRONG_TYPE', `${quote(name)} must be true or false, not ${describeValue(value)}`);
      return undefined;
    }
    case 'words':
      return readWords(problems, place, name, fields.raw(name), setting.required === true);
    case 'map':
      return readTexts(problems, place, name, fields.raw(name));
    case 'codes':
      return readCodes(problems, place, name, fields.raw(name), bounds!);
    case 'mounts':
      return readMounts(problems, place, fields.raw(name));
    case 'seconds': {
      const seconds = fields.number(name, bounds ?? { min: 0, max: MAX_TIMEOUT_SECONDS });
      return seconds === undefined ? undefined : Math.round(seconds * 1000);
    }
    case 'whole':
    case 'number':
      return fields.number(name, bounds!);
    default: {
      const text = fields.text(name);
      if (text === undefined || is.includes(text)) return text;
      const hint = problems.didYouMean(text, is) ?? `known: ${is.join(', ')}`;
      problems.add(place, 'UNKNOWN_VALUE', `${quote(name)} cannot be ${quote(text)}`, hint);
      return undefined;
    }
  }
}

/** Texts as they stand: an argument may be empty, or blank. NUL ends a C string, and halves of characters have no bytes. */
export function readWords(
  problems: Problems,
  place: Place,
  name: string,
  value: unknown,
  needsOne: boolean,
): string[] | undefined {
  if (!Array.isArray(value)) {
    const hint = typeof value === 'string' ? 'write it as a list of words: no shell takes it apart' : undefined;
    problems.add(place, 'WRONG_TYPE', `${quote(name)} must be a list of strings, not ${describeValue(value)}`, hint);
    return undefined;
  }
  const words: string[] = [];
  for (const [index, word] of (value as readonly unknown[]).entries()) {
    if (typeof word !== 'string') {
      const hint = typeof word === 'number' || typeof word === 'boolean' ? `put it in quotes: "${word}"` : undefined;
      const message = `an item of ${quote(name)} must be a string, not ${describeValue(word)}`;
      problems.add(at(place, index), 'WRONG_TYPE', message, hint);
    } else if (isPlain(word)) {
      words.push(word);
    } else {
      problems.add(at(place, index), 'INVALID_NAME', `an item of ${quote(name)} contains NUL or half a character`);
    }
  }
  if (needsOne && (value.length === 0 || words[0] === '')) {
    problems.add(place, 'EMPTY_FIELD', `${quote(name)} names no program`);
  }
  return words;
}

/** Texts by name. */
export function readTexts(
  problems: Problems,
  place: Place,
  name: string,
  value: unknown,
): Record<string, string> | undefined {
  const record = readRecord(problems, place, value, quote(name));
  if (!record) return undefined;
  const texts: Record<string, string> = {};
  for (const [key, text] of Object.entries(record)) {
    if (typeof text !== 'string') {
      const hint = typeof text === 'number' || typeof text === 'boolean' ? `put it in quotes: "${text}"` : undefined;
      const message = `${quote(key)} must be a string, not ${describeValue(text)}`;
      problems.add(at(place, key), 'WRONG_TYPE', message, hint);
    } else if (!isPlain(text) || !isPlain(key)) {
      problems.add(at(place, key), 'INVALID_NAME', `${quote(key)} contains NUL or half a character`);
    } else {
      setOwnValue(texts, key, text);
    }
  }
  return texts;
}

function readCodes(
  problems: Problems,
  place: Place,
  name: string,
  value: unknown,
  { min = 0, max }: Bounds,
): number[] | undefined {
  if (!Array.isArray(value)) {
    problems.add(place, 'WRONG_TYPE', `${quote(name)} must be a list of numbers, not ${describeValue(value)}`);
    return undefined;
  }
  for (const [index, code] of (value as readonly unknown[]).entries()) {
    if (typeof code !== 'number' || !Number.isInteger(code) || code < min || code > max) {
      const message = `an item of ${quote(name)} must be a whole number from ${min} to ${max}`;
      problems.add(at(place, index), 'OUT_OF_RANGE', message);
    }
  }
  return value as number[];
}

function readMounts(problems: Problems, place: Place, value: unknown): JsonObject[] | undefined {
  if (!Array.isArray(value)) {
    problems.add(place, 'WRONG_TYPE', `"mounts" must be a list of objects, not ${describeValue(value)}`);
    return undefined;
  }
  const mounts: JsonObject[] = [];
  for (const [index, item] of (value as readonly unknown[]).entries()) {
    const here = at(place, index);
    const record = readRecord(problems, here, item, 'a mount');
    if (!record) continue;
    const fields = new Fields(problems, here, record);
    const source = fields.requiredText('source');
    const target = fields.requiredText('target');
    const readOnly = fields.raw('read_only');
    if (readOnly !== undefined && typeof readOnly !== 'boolean') {
      problems.add(fields.at('read_only'), 'WRONG_TYPE', '"read_only" must be true or false');
    }
    if (target !== undefined && !target.startsWith('/')) {
      readText(problems, fields.at('target'), target, 'the target of a mount');
      problems.add(fields.at('target'), 'INVALID_NAME', `the target ${quote(target)} is not an absolute path`);
    }
    fields.refuseUnknown(['source', 'target', 'read_only']);
    if (source !== undefined && target !== undefined) mounts.push({ source, target, readOnly: readOnly === true });
  }
  return mounts;
}

function isPlain(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed();
}
