/** The three services as processes, called over gRPC as the pipeline calls them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { ContainerExecutor } from '@baton/contract';
import { health } from '@baton/contract/grpc';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';
import * as grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type EnergyServices, type ServiceId, ServiceStartError, startEnergyServices } from '../src/index.ts';

const MAIN = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const DATA = fileURLToPath(new URL('../data', import.meta.url));
const PROTOS = fileURLToPath(new URL('../../../proto/third_party', import.meta.url));

const transportOf = (address: string) => createGrpcTransport({ baseUrl: `http://${address}` });
const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'energy-services-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string) => join(directory, name);

describe('three running services', () => {
  let energy: EnergyServices;
  beforeAll(async () => {
    energy = await startEnergyServices();
  });
  afterAll(() => energy.stop());

  const execute = (id: ServiceId, inputFile: string, outputFile: string, timeoutMs?: number) =>
    createClient(ContainerExecutor, transportOf(energy.services[id].address)).execute(
      { inputFile, outputFile },
      { timeoutMs },
    );
  const runChain = async (spec: string, into: string) => {
    const out = (name: string) => join(directory, into, name);
    const answers = [
      await execute('energy-generator', spec, out('output1.json')),
      await execute('energy-analyzer', out('output1.json'), out('output2.json')),
      await execute('report-generator', out('output2.json'), out('final.csv')),
    ];
    return answers;
  };

  test('each is a process of its own', () => {
    const pids = Object.values(energy.services).map(({ pid }) => pid);
    expect(new Set([...pids, process.pid]).size).toBe(4);
  });

  test.each(['iowa.json', 'households.json'])(
    '%s: the chain ends in CSV, summary and chart, twice the same bytes',
    async (spec) => {
      for (const into of ['first', 'second/deep']) {
        const answers = await runChain(join(DATA, spec), into);
        expect(
          answers.map(({ success }) => success),
          JSON.stringify(answers),
        ).toEqual([true, true, true]);
        for (const name of ['final.csv', 'final.summary.json', 'final.svg'])
          expect(answers[2]!.message).toContain(name);
      }
      const names = ['final.csv', 'final.summary.json', 'final.svg', 'output1.json', 'output2.json'];
      expect(readdirSync(file('first')).sort()).toEqual(names);
      for (const name of names) {
        expect(readFileSync(file(`second/deep/${name}`)).equals(readFileSync(file(`first/${name}`))), name).toBe(true);
      }
    },
  );

  test('the generator needs no input, and writes CSV where the name asks for it', async () => {
    expect(await execute('energy-generator', '', file('rows.csv'))).toMatchObject({ success: true });
    const [header, ...rows] = readFileSync(file('rows.csv'), 'utf8').trimEnd().split('\n');
    expect(header).toBe('timestamp,household_id,power_consumption,voltage,current');
    expect(rows).toHaveLength(12 * 168);
  });

  test('a CSV of one’s own goes through; its bad rows are counted in the summary', async () => {
    writeFileSync(file('own.csv'), 'year,source,net_generation\n2001,Wind,10\n2001,Coal,30\n2002,Wind,x\n2002,Coal\n');
    const answers = await runChain(file('own.csv'), 'out');
    expect(answers[2]).toMatchObject({ success: true });
    expect(JSON.parse(readFileSync(file('out/final.summary.json'), 'utf8'))).toMatchObject({
      finding: 'Coal made 75% of generation in 2001',
      rows: { read: 4, used: 2, skipped: 2, skipped_by_reason: [{ rows: 1 }, { rows: 1 }] },
      origin: { source: 'own.csv' },
    });
  });

  test.each<[ServiceId, string, string]>([
    ['energy-generator', 'missing.json', 'no such file'],
    ['energy-analyzer', 'missing.json', 'no such file'],
    ['report-generator', 'missing.json', 'no such file'],
    ['energy-generator', 'text.txt', 'its header is "hello"'],
    ['energy-analyzer', 'text.txt', 'its header is "hello"'],
    ['report-generator', 'text.txt', 'it is not JSON'],
    ['energy-analyzer', 'bad-rows.csv', 'no usable reading among 1 rows'],
  ])('%s answers success = false for %s, naming file and reason, and writes nothing', async (id, name, reason) => {
    writeFileSync(file('text.txt'), 'hello\n');
    writeFileSync(file('bad-rows.csv'), 'timestamp,household_id,power_consumption,voltage,current\nx,H1,1,2,3\n');
    const answer = await execute(id, file(name), file('out.csv'));
    expect(answer.success).toBe(false);
    expect(answer.message).toContain(file(name));
    expect(answer.message).toContain(reason);
    expect(readdirSync(directory).sort()).toEqual(['bad-rows.csv', 'text.txt']);
  });

  test('an output that cannot be written is an answer too', async () => {
    writeFileSync(file('taken'), '');
    const answer = await execute('energy-generator', '', file('taken/out.csv'));
    expect(answer).toMatchObject({ success: false });
    expect(answer.message).toContain(`cannot write output file "${file('taken/out.csv')}"`);
    expect(await execute('energy-generator', '', '')).toMatchObject({
      success: false,
      message: expect.stringMatching(/output_file is empty/),
    });
  });

  test('the reporter refuses a name that its chart or its input would take', async () => {
    expect((await execute('report-generator', file('x.json'), file('report.svg'))).message).toContain('is for the CSV');
    expect((await execute('report-generator', file('a.summary.json'), file('a.csv'))).message).toContain(
      'is the input file',
    );
  });

  test('standard health says SERVING for the server and for the service', async () => {
    for (const { address } of Object.values(energy.services)) {
      const client = createClient(health.Health, transportOf(address));
      for (const service of ['', 'ContainerExecutor']) {
        expect((await client.check({ service })).status).toBe(health.HealthCheckResponse_ServingStatus.SERVING);
      }
    }
  });

  test('grpc-js with nothing but the .proto file speaks to it', async () => {
    const loaded = grpc.loadPackageDefinition(
      loadSync(join(PROTOS, 'container_executor.proto'), { keepCase: true }),
    ) as unknown as { ContainerExecutor: grpc.ServiceClientConstructor };
    const { address } = energy.services['energy-generator'];
    const client = new loaded.ContainerExecutor(address, grpc.credentials.createInsecure());
    try {
      const answer = await new Promise((resolve, reject) => {
        const request = { input_file: join(DATA, 'iowa.json'), output_file: file('iowa.csv') };
        client.Execute!(request, (error: Error | null, value: unknown) => (error ? reject(error) : resolve(value)));
      });
      expect(answer).toMatchObject({ success: true });
      expect(readFileSync(file('iowa.csv'), 'utf8')).toContain('2009-01-01,Renewables,8560\n');
    } finally {
      client.close();
    }
  });
});

describe('life and death', () => {
  test('a call that is given up while it is held open writes nothing', async () => {
    const lines = new EventEmitter();
    const energy = await startEnergyServices({
      delayMs: { 'energy-generator': 60_000 },
      onLog: (_, line) => lines.emit(JSON.parse(line).msg, line),
    });
    try {
      const executed = once(lines, 'executed');
      const transport = transportOf(energy.services['energy-generator'].address);
      const { check } = createClient(health.Health, transport);
      await check({});
      const caller = new AbortController();
      const call = createClient(ContainerExecutor, transport).execute(
        { inputFile: '', outputFile: file('out.csv') },
        { signal: caller.signal },
      );
      const refused = expect(call).rejects.toThrow('canceled');
      // Streams of one connection are opened in order: once this one is answered, the call before it has arrived.
      await check({});
      caller.abort();
      await refused;
      const [line] = await executed;
      expect(JSON.parse(line)).toMatchObject({ success: false, output_file: file('out.csv') });
      expect(readdirSync(directory)).toEqual([]);
    } finally {
      await energy.stop();
    }
    for (const { pid } of Object.values(energy.services)) expect(isAlive(pid)).toBe(false);
  });

  test('SIGTERM lets a call in flight finish', async () => {
    const service = await startAlone(['generator', '--port', '0', '--delay-ms', '700']);
    const transport = transportOf(service.address);
    const { check } = createClient(health.Health, transport);
    await check({});
    const call = createClient(ContainerExecutor, transport).execute({ inputFile: '', outputFile: file('out.csv') });
    // Streams of one connection are opened in order: once this one is answered, the call before it has arrived.
    await check({});
    service.child.kill('SIGTERM');
    expect(await call).toMatchObject({ success: true });
    expect(existsSync(file('out.csv'))).toBe(true);
    expect(await service.exited).toEqual([0, null]);
  });

  test('the services die with the process that started them, even when it is killed', async () => {
    const starter = `
      const { startEnergyServices } = await import(${JSON.stringify(new URL('../src/index.ts', import.meta.url).href)});
      const { services } = await startEnergyServices();
      console.log(JSON.stringify(Object.values(services).map(({ pid }) => pid)));
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', starter], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(createInterface({ input: child.stdout! }), 'line');
    const pids: number[] = JSON.parse(line);
    expect(pids.map(isAlive)).toEqual([true, true, true]);
    child.kill('SIGKILL');
    await expect.poll(() => pids.map(isAlive), { timeout: 10_000 }).toEqual([false, false, false]);
  });

  test('a taken port is told, and no service is left behind', async () => {
    const taken = net.createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as net.AddressInfo;
    const start = startEnergyServices({ ports: { 'energy-analyzer': port } });
    await expect(start).rejects.toThrow(ServiceStartError);
    await expect(start).rejects.toThrow(`127.0.0.1:${port} is already in use`);
    taken.close();
  });

  test('only loopback is listened on', async () => {
    const child = spawn(process.execPath, [MAIN, 'generator', '--port', '0', '--host', '0.0.0.0']);
    const lines: string[] = [];
    createInterface({ input: child.stderr }).on('line', (line) => lines.push(line));
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(lines.join()).toContain('0.0.0.0 is not a loopback address');
  });
});

async function startAlone(
  args: string[],
): Promise<{ child: ChildProcess; address: string; exited: Promise<unknown[]> }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  const exited = once(child, 'exit');
  const [line] = await once(createInterface({ input: child.stdout! }), 'line');
  return { child, address: JSON.parse(line).address, exited };
}
