import { expect, test } from 'vitest';
import { readConfig, WorkerConfigError } from './config.ts';

test('everything has a default', () => {
  const config = readConfig({});
  expect(config).toMatchObject({
    urls: ['http://127.0.0.1:7800'],
    namespace: 'default',
    classes: [],
    tags: [],
    queues: [],
    modules: [],
    watch: false,
    port: 7801,
    portIsFixed: false,
    cache: { directory: '.baton/cache', maxBytes: 10_240 * 1024 ** 2 },
    logDir: 'logs',
  });
  expect(config.slots).toBeGreaterThanOrEqual(1);
  expect(config.name).not.toBe('');
  expect(config.name).not.toContain(String(process.pid));
  expect(Object.isFrozen(config)).toBe(true);
});

test('the environment is read, and flags win over it', () => {
  const config = readConfig(
    {
      BATON_URL: 'http://10.0.0.5:7800',
      BATON_WORKER_NAME: 'w1',
      BATON_WORKER_SLOTS: '3',
      BATON_WORKER_CLASSES: 'gpu, cpu_long',
      BATON_WORKER_TAGS: 'a,b,',
      BATON_WORKER_TASKS: './tasks.ts,./more.ts',
      BATON_WORKER_PORT: '0',
      BATON_CACHE_DIR: '/var/cache/baton',
      BATON_CACHE_MIB: '100',
      LOG_DIR: '/var/log/baton',
    },
    ['--name', 'w2', '--queues=q1,q2', '--watch'],
  );
  expect(config).toMatchObject({
    urls: ['http://10.0.0.5:7800'],
    name: 'w2',
    slots: 3,
    classes: ['gpu', 'cpu_long'],
    tags: ['a', 'b'],
    queues: ['q1', 'q2'],
    modules: ['./tasks.ts', './more.ts'],
    watch: true,
    port: 0,
    portIsFixed: true,
    cache: { directory: '/var/cache/baton', maxBytes: 104_857_600 },
    logDir: '/var/log/baton',
  });
});

test('all that is wrong is named at once, with where it was said', () => {
  const read = () =>
    readConfig({ BATON_URL: 'localhost:7800', BATON_WORKER_SLOTS: '-1', BATON_WORKER_CLASSES: 'gpu,huge' }, [
      '--port',
      '70000',
    ]);
  expect(read).toThrow(WorkerConfigError);
  expect(read).toThrow(/BATON_URL is "localhost:7800"/);
  expect(read).toThrow(/--port is "70000"/);
  expect(read).toThrow(/BATON_WORKER_SLOTS is "-1"/);
  expect(read).toThrow(/BATON_WORKER_CLASSES has huge/);
  expect(() => readConfig({}, ['--sluts', '3'])).toThrow(/--sluts/);
});

test('several masters are a list, and everything that is wrong with it is named with its place', () => {
  expect(readConfig({ BATON_URL: 'http://10.0.0.5:7800, http://10.0.0.6:7800/' }).urls).toEqual([
    'http://10.0.0.5:7800',
    'http://10.0.0.6:7800/',
  ]);
  expect(readConfig({ BATON_URL: 'http://a:1' }, ['--url', 'http://b:1,http://c:1']).urls).toEqual([
    'http://b:1',
    'http://c:1',
  ]);
  const problems = (env: Record<string, string>, argv: string[] = []) => {
    try {
      readConfig(env, argv);
    } catch (error) {
      return (error as WorkerConfigError).problems;
    }
    return [];
  };
  expect(problems({ BATON_URL: 'http://a:1,,b:2,https://c:3,' })).toEqual([
    'URL 2 of 5 of BATON_URL is empty; write it as http://host:port',
    'URL 3 of 5 of BATON_URL is "b:2"; write it as http://host:port',
    'URL 4 of 5 of BATON_URL is "https://c:3"; write it as http://host:port',
    'URL 5 of 5 of BATON_URL is empty; write it as http://host:port',
  ]);
  expect(problems({ BATON_URL: 'http://a:1' }, ['--url', 'http://b:1,nowhere'])).toEqual([
    'URL 2 of 2 of --url is "nowhere"; write it as http://host:port',
  ]);
});
