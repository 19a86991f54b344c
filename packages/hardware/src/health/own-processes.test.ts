import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from 'vitest';
import { createMachineMeter, latencyTo } from './machine-meter.ts';
import { OwnProcesses } from './own-processes.ts';

const started: number[] = [];
afterEach(() => {
  for (const pid of started.splice(0)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended.
    }
  }
});

/** Runs a shell script that prints numbers of processes; they are killed after the test. */
async function shell(script: string): Promise<{ pid: number; told: number[]; end: () => Promise<void> }> {
  const child = spawn('sh', ['-c', script], { stdio: ['pipe', 'pipe', 'ignore'] });
  started.push(child.pid!);
  const told: number[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    if (line === 'ready') break;
    told.push(Number(line));
    started.push(Number(line));
  }
  return {
    pid: child.pid!,
    told,
    async end() {
      child.kill('SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    },
  };
}

describe.skipIf(process.platform !== 'linux')('own processes', () => {
  test('are the tree below, and remain its own when their parent ends', async () => {
    const own = new OwnProcesses([process.pid]);
    const { pid, told, end } = await shell(
      'setsid sleep 600 & echo $!; (sleep 601 & echo $!; wait) & echo ready; read x',
    );
    expect((await own.sample()).pids).toEqual(expect.objectContaining(new Set([process.pid])));
    const { pids } = await own.sample();
    for (const each of [pid, ...told]) expect(pids).toContain(each);
    await end();
    const after = await own.sample();
    expect(after.pids).not.toContain(pid);
    for (const each of told) expect(after.pids).toContain(each);
    // Somebody else's process is not, however near: the one that started this one.
    expect(after.pids).not.toContain(process.ppid);
  });

  test("processor time of a child is the worker's own, and not of others", async () => {
    const meter = createMachineMeter({ ownRoots: [process.pid], diskPath: '.', masterUrl: () => undefined });
    await meter.sample();
    const { end } = await shell('(while :; do :; done) & echo $!; echo ready; read x');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const own = await meter.sample();
    await end();
    const meterOfOthers = createMachineMeter({ ownRoots: [], diskPath: '.', masterUrl: () => undefined });
    await meterOfOthers.sample();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const others = await meterOfOthers.sample();
    // Of the same load one counts most as its own, and the other nothing.
    expect(own.cpuPercent - own.foreignCpuPercent).toBeGreaterThan(5);
    expect(others.cpuPercent - others.foreignCpuPercent).toBe(0);
    expect(own.memoryPercent).toBeGreaterThanOrEqual(own.foreignMemoryPercent);
    expect(own.diskPercent).toBeGreaterThan(0);
    expect(own.networkLatencyMs).toBeNull();
  });
});

test('the way to a master that is there takes a time, and to one that is not none that is known', async () => {
  const { createServer } = await import('node:net');
  const server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  expect(await latencyTo(`http://127.0.0.1:${port}`, 2_000)).toBeGreaterThan(0);
  server.close();
  await once(server, 'close');
  expect(await latencyTo(`http://127.0.0.1:${port}`, 2_000)).toBeNull();
});
