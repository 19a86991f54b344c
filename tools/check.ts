// `npm run check`: the parts beside each other, since each of them leaves a core idle for a while. What a part said is shown when
// it has ended. Exit code 1 when one of them failed.
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const PARTS = ['check:types', 'check:style', 'check:house', 'check:contract'];

const codes = await Promise.all(
  PARTS.map(async (part) => {
    const began = performance.now();
    const child = spawn(process.execPath, ['--run', part], { stdio: ['ignore', 'pipe', 'pipe'] });
    const said: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => said.push(data));
    const [code] = (await once(child, 'close')) as [number | null];
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    process.stdout.write(`${part}: ${code === 0 ? 'ok' : 'failed'} (${seconds} s)\n${Buffer.concat(said)}`);
    return code;
  }),
);
process.exitCode = codes.every((code) => code === 0) ? 0 : 1;
