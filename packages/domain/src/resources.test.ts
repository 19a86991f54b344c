import { expect, it } from 'vitest';
import { shortageName, shortages } from './planner/shortage.ts';
import { hasTool, needsOf, needsText, osName, requirementViolations } from './requirements.ts';
import { completeResources, isModel, resourceViolations } from './resources.ts';

const GIB = 2 ** 30;

it('what is left out of resources has its default, by the class', () => {
  expect(completeResources({}, 'cpu_short')).toEqual({
    cpus: 1,
    memoryBytes: 4 * GIB,
    gpus: 0,
    gpuMemoryBytes: 0,
    gpuModel: '',
  });
  expect(completeResources({ cpus: 2 }, 'gpu')).toMatchObject({ cpus: 2, gpus: 1, gpuMemoryBytes: 2 * GIB });
  expect(completeResources({ gpuModel: ' A100 ' }, 'cpu_long')).toMatchObject({ gpus: 1, gpuModel: 'a100' });
  expect(completeResources({ gpus: 0 }, 'gpu')).toMatchObject({ gpus: 0, gpuMemoryBytes: 0 });
});

it('all that is wrong with resources is told at once, each with what is possible', () => {
  const wrong = { cpus: Number.NaN, memoryBytes: -1, gpus: 1.5, gpuMemoryBytes: 2 ** 60, gpuModel: 'a\u0000' };
  const violations = resourceViolations(wrong, 'task.resources');
  expect(violations.map((v) => v.field)).toEqual(
    ['cpus', 'memory_bytes', 'gpus', 'gpu_memory_bytes', 'gpu_model'].map((name) => `task.resources.${name}`),
  );
  expect(violations[0]!.description).toBe('is NaN; it must be a number from 0 to 65536');
  expect(violations[2]!.description).toBe('is 1.5; it must be a whole number from 0 to 1024');
  expect(resourceViolations({ cpus: Number.POSITIVE_INFINITY, gpus: -2 }, 'r')).toHaveLength(2);
  expect(resourceViolations({ gpus: 0, gpuMemoryBytes: 1, gpuModel: 'a100' }, 'r')).toHaveLength(2);
  expect(resourceViolations({ cpus: 0.5, memoryBytes: 0, gpus: 8, gpuMemoryBytes: 80 * GIB }, 'r')).toEqual([]);
});

it('models are compared by their words', () => {
  expect(isModel('NVIDIA GeForce RTX 4090', 'rtx 4090')).toBe(true);
  expect(isModel('NVIDIA GeForce RTX 4090', '4090 nvidia')).toBe(true);
  expect(isModel('NVIDIA GeForce RTX 4090D', '4090')).toBe(false);
  expect(isModel('NVIDIA A100-SXM4-80GB', 'a100')).toBe(true);
  expect(isModel('anything', '')).toBe(true);
});

it('tools are compared by name in any case, and by as many numbers of the version as are asked for', () => {
  const tools = [
    { name: 'FFmpeg', version: '5.1.4-0ubuntu1' },
    { name: 'git', version: '' },
  ];
  for (const yes of [
    'ffmpeg',
    'ffmpeg>=5',
    'ffmpeg >= 5.1.4',
    'ffmpeg=5.1',
    'ffmpeg==5.1',
    'ffmpeg<5.2',
    'ffmpeg<=5',
    'git',
  ])
    expect(hasTool(tools, yes), yes).toBe(true);
  for (const no of ['ffprobe', 'ffmpeg>5.1', 'ffmpeg>=5.1.5', 'ffmpeg=6', 'ffmpeg<5', 'git>=2'])
    expect(hasTool(tools, no), no).toBe(false);
});

it('requirements say what is wrong with them, at its place', () => {
  const wrong = { os: ['linux', ''], tools: ['ffmpeg>=', 'g++>=12', '; rm'] };
  expect(requirementViolations(wrong, 'task.requirements').map((v) => v.field)).toEqual([
    'task.requirements.os[1]',
    'task.requirements.tools[0]',
    'task.requirements.tools[2]',
  ]);
  expect(requirementViolations({ os: ['macOS'], tools: ['python3.12>=3', 'nvidia-smi'] }, 'r')).toEqual([]);
  expect([osName('macOS'), osName('Win32'), osName('Linux')]).toEqual(['darwin', 'windows', 'linux']);
});

it('equal needs have one text, however they are said', () => {
  const one = needsOf(completeResources({ gpus: 1 }, 'gpu'), { os: ['Linux', 'macos'], tools: ['git', 'FFmpeg >= 5'] });
  const other = needsOf(completeResources({}, 'gpu'), {
    os: ['darwin', 'linux', 'LINUX'],
    tools: ['ffmpeg>=5', 'git'],
  });
  expect(needsText(one)).toBe(needsText(other));
  expect(needsText(JSON.parse(JSON.stringify(one)))).toBe(needsText(one));
  expect(needsOf(null, { os: [], selector: ' ' })).toBeNull();
  expect(needsText(null)).toBe('');
});

it('a shortage names the number that is too large, and the most there is', () => {
  const capacity = {
    cpus: 4,
    memoryBytes: 8 * GIB,
    devices: [
      { model: 'A100', memoryBytes: 40 * GIB },
      { model: 'V100', memoryBytes: 16 * GIB },
    ],
  };
  const short = (request: Parameters<typeof completeResources>[0]) =>
    shortages(capacity, completeResources({ cpus: 1, memoryBytes: GIB, ...request }, 'cpu_short'));
  expect(short({ cpus: 8, memoryBytes: 9 * GIB }).map(shortageName)).toEqual(['cpus>=8', `memory>=${9 * GIB}`]);
  expect(short({ gpus: 4 })).toEqual([{ of: 'gpus', asked: 4, most: 2 }]);
  expect(short({ gpuMemoryBytes: 80 * GIB })).toEqual([{ of: 'gpu_memory', asked: 80 * GIB, most: 40 * GIB }]);
  expect(short({ gpus: 2, gpuMemoryBytes: 20 * GIB })).toEqual([{ of: 'gpu_memory', asked: 20 * GIB, most: 16 * GIB }]);
  expect(short({ gpuModel: 'h100' }).map(shortageName)).toEqual(['gpu_model:h100']);
  expect(short({ gpus: 2, gpuMemoryBytes: 16 * GIB })).toEqual([]);
});
