import { defaultLimits, type HealthLimits } from '@baton/hardware';

/** As they are written in the environment: `gate_cpu_percent` is `gateCpuPercent`. */
const names: ReadonlyMap<string, keyof HealthLimits> = new Map(
  (Object.keys(defaultLimits) as (keyof HealthLimits)[]).map((name) => [
    name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
    name,
  ]),
);

/** `name=value` by commas, of the limits of health. What cannot be is added to `problems`. */
export function readLimits(text: string, source: string, problems: string[]): Partial<HealthLimits> {
  const limits: Partial<Record<keyof HealthLimits, number>> = {};
  for (const part of text.split(',').map((each) => each.trim())) {
    if (part === '') {
      continue;
    }
    const [name = '', value = ''] = part.split('=').map((each) => each.trim());
    const limit = names.get(name);
    if (limit === undefined) {
      problems.push(`${source} has "${name}"; there are ${[...names.keys()].join(', ')}`);
    } else if (!/^\d{1,12}(\.\d{1,3})?$/.test(value) || (limit.endsWith('Percent') && Number(value) > 100)) {
      problems.push(
        `${source} has ${name}=${value}; write a number${limit.endsWith('Percent') ? ' from 0 to 100' : ' from 0 on'}`,
      );
    } else {
      limits[limit] = Number(value);
    }
  }
  return limits;
}
