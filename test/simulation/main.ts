import { parseArgs } from 'node:util';
import { MUTATIONS, type Mutation, simulate } from './simulation.ts';

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string' },
    from: { type: 'string' },
    mutate: { type: 'string' },
    trace: { type: 'boolean' },
  },
});
const from = Number(values.seed ?? values.from ?? 1);
const count = values.seed ? 1 : Number(values.seeds ?? 200);
const mutation = MUTATIONS.find((m) => m === values.mutate) as Mutation | undefined;
const t0 = process.cpuUsage();
let bad = 0;
const total: Record<string, number> = {};
for (let seed = from; seed < from + count; seed++) {
  const result = simulate({
    seed,
    mutation,
    ...(values.trace && { trace: (atMs, what) => console.log(atMs.toFixed(1).padStart(9), what) }),
  });
  for (const [k, v] of Object.entries(result.counts)) total[k] = (total[k] ?? 0) + v;
  if (result.violations.length === 0) continue;
  bad++;
  if (bad > 8) continue;
  console.log(`seed ${seed}:`);
  for (const v of result.violations.slice(0, 4)) console.log(`  invariant ${v.invariant}: ${v.what}`);
}
const cpu = process.cpuUsage(t0);
console.log({ bad, count, msPerSeed: (cpu.user + cpu.system) / 1000 / count, total });
