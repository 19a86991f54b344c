import { type CelEnv, type CelResult, type CelValue, celEnv, isCelError, isCelList, isCelMap } from '@bufbuild/cel';
import { strings } from '@bufbuild/cel/ext';
import { GrownList } from './json-values.ts';
import type { Meter } from './meter.ts';

/** What an instrumented comprehension calls before each step, with what the step costs. No text can name it. */
export const STEP_FUNCTION = '@step';

/** Text functions of the extension that would write out any value, or have names of their own. */
const LEFT_OUT: ReadonlySet<string> = new Set(['format', 'strings.quote']);

interface Callable {
  call(id: number, target: CelValue | undefined, args: CelValue[]): CelResult | undefined;
}

/** The functions of CEL, and those of its text extension whose cost can be told beforehand. */
const STANDARD = celEnv({ funcs: strings.filter(({ name }) => !LEFT_OUT.has(name)) });

/** Every name that may stand before a bracket. */
export const FUNCTION_NAMES: ReadonlySet<string> = new Set([...STANDARD.funcs].map(({ name }) => name));

/** An error is an object with a message: much more than a call that goes well. */
const ERROR_WORK = 20;

type Override = (args: CelValue[], next: () => CelResult | undefined, meter: Meter) => CelResult | undefined;

const isNumeric = (value: unknown): value is bigint | number => typeof value === 'bigint' || typeof value === 'number';

/** Integer with floating point, which CEL itself refuses, and floating point remainders. */
function mixed(compute: (left: number, right: number) => number, both = false): Override {
  return ([left, right], next) => {
    const isMixed = isNumeric(left) && isNumeric(right) && (typeof left !== typeof right || both);
    if (!isMixed || (typeof left === 'bigint' && typeof right === 'bigint')) return next();
    return compute(Number(left), Number(right));
  };
}

const addMixed = mixed((left, right) => left + right);

const OVERRIDES: ReadonlyMap<string, Override> = new Map<string, Override>([
  [
    '_+_',
    (args, next, meter) => {
      const [left, right] = args;
      if (isCelList(left) && isCelList(right)) return GrownList.concat(left, right, meter);
      if (isMade(left) && isMade(right)) meter.make(left.length + right.length);
      return addMixed(args, next, meter);
    },
  ],
  ['_-_', mixed((left, right) => left - right)],
  ['_*_', mixed((left, right) => left * right)],
  ['_/_', mixed((left, right) => left / right)],
  ['_%_', mixed((left, right) => left % right, true)],
  ['_==_', ([left, right], next, meter) => equalOr(left!, right!, next, meter)],
  [
    '_!=_',
    ([left, right], next, meter) => {
      const equal = deepEqual(left!, right!, meter);
      return equal === undefined ? next() : !equal;
    },
  ],
  [
    '@in',
    ([item, list], next, meter) => {
      if (!isCelList(list)) return next();
      for (const other of list) if (deepEqual(item!, other, meter) ?? same(item!, other)) return true;
      return false;
    },
  ],
  [
    'replace',
    ([text, from, to], next, meter) => {
      if (typeof text === 'string' && typeof from === 'string' && typeof to === 'string') {
        meter.make(text.length + (text.length / Math.max(1, from.length) + 1) * to.length);
      }
      return next();
    },
  ],
  [
    'join',
    ([list, separator], next, meter) => {
      let length = 0;
      if (isCelList(list)) {
        for (const item of list) length += typeof item === 'string' ? item.length : 0;
        length += list.size * (typeof separator === 'string' ? separator.length : 0);
      }
      meter.make(length);
      return next();
    },
  ],
  [
    'matches',
    ([text, pattern], next, meter) => {
      if (typeof text === 'string' && typeof pattern === 'string') {
        const weight = patternWeight(pattern);
        if (weight > 10_000) meter.stop('its pattern repeats too much');
        meter.charge(weight + text.length * weight);
      }
      return next();
    },
  ],
]);

/** An upper bound of the states of a pattern: its length times each number that it repeats something by. */
function patternWeight(pattern: string): number {
  let weight = pattern.length;
  for (const [, least, most] of pattern.matchAll(/\{(\d+)(?:,(\d*))?\}/g)) {
    weight *= Math.max(1, Number(least), Number(most || 0));
  }
  return weight;
}

const isMade = (value: unknown): value is string | Uint8Array =>
  typeof value === 'string' || value instanceof Uint8Array;

const EQUALS: Callable = STANDARD.funcs.find('_==_')!;

const same = (left: CelValue, right: CelValue): boolean => EQUALS.call(0, undefined, [left, right]) === true;

function equalOr(left: CelValue, right: CelValue, next: () => CelResult | undefined, meter: Meter) {
  return deepEqual(left, right, meter) ?? next();
}

/** CEL's own equality goes through lists and maps uncounted; undefined where it is neither, which it may answer. */
function deepEqual(left: CelValue, right: CelValue, meter: Meter): boolean | undefined {
  meter.charge(1);
  if (isCelList(left) && isCelList(right)) {
    if (left.size !== right.size) return false;
    for (let index = 0; index < left.size; index++) {
      const [a, b] = [left.get(index)!, right.get(index)!];
      if (!(deepEqual(a, b, meter) ?? same(a, b))) return false;
    }
    return true;
  }
  if (isCelMap(left) && isCelMap(right)) {
    if (left.size !== right.size) return false;
    for (const [key, a] of left) {
      const b = right.get(key);
      if (b === undefined || !(deepEqual(a, b, meter) ?? same(a, b))) return false;
    }
    return true;
  }
  return undefined;
}

/** An environment whose every call is counted. */
export function meteredEnvironment(meter: Meter): CelEnv {
  const groups = new Map<string, Callable>();
  for (const name of FUNCTION_NAMES) groups.set(name, metered(STANDARD.funcs.find(name)!, OVERRIDES.get(name), meter));
  groups.set(STEP_FUNCTION, {
    call: (_, __, [cost]) => {
      meter.charge(Number(cost));
      return true;
    },
  });
  const { namespace, registry, variables } = STANDARD;
  return { namespace, registry, variables, funcs: { find: (name: string) => groups.get(name) } } as unknown as CelEnv;
}

function metered(standard: Callable, override: Override | undefined, meter: Meter): Callable {
  return {
    call(id, target, args) {
      let work = 1;
      if (isMade(target)) work += target.length >> 4;
      for (const arg of args) if (isMade(arg)) work += arg.length >> 4;
      meter.charge(work);
      const next = (): CelResult | undefined => standard.call(id, target, args);
      const result = override ? override(target === undefined ? args : [target, ...args], next, meter) : next();
      if (result === undefined || isCelError(result)) meter.charge(ERROR_WORK);
      return result;
    },
  };
}
