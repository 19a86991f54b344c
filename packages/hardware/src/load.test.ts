import { totalmem } from 'node:os';
import { expect, test } from 'vitest';
import { createLoadMeter } from './load.ts';
import { readMachine } from './machine.ts';

test('the machine is described with what this process may use', () => {
  const machine = readMachine();
  expect(machine.os).toBe(process.platform);
  expect(machine.arch).toBe(process.arch);
  expect(machine.cpus).toBeGreaterThanOrEqual(1);
  expect(machine.memoryBytes).toBeGreaterThan(0);
  expect(machine.memoryBytes).toBeLessThanOrEqual(totalmem());
});

test('work raises the processor load that the next sample shows', () => {
  const meter = createLoadMeter();
  const end = performance.now() + 300;
  while (performance.now() < end) {
    Math.sqrt(end);
  }
  const { cpuPercent, memoryPercent } = meter.sample();
  // One processor of this machine was busy for all of the time.
  expect(cpuPercent).toBeGreaterThan(50 / readMachine().cpus);
  expect(cpuPercent).toBeLessThanOrEqual(100);
  expect(memoryPercent).toBeGreaterThan(0);
  expect(memoryPercent).toBeLessThan(100);
});
