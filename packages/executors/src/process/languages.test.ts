// biome-ignore-all lint/suspicious/noTemplateCurlyInString: these texts are programs
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FailureType } from '@baton/contract';
import { type AttemptContext, TaskStopped } from '@baton/runtime';
import { describe, expect, test, vi } from 'vitest';
import { outputOf, start } from '../testing/attempt.ts';
import { openProcessStage, type ProcessStage } from '../testing/processes.ts';

/** Checkpoints in memory, as the master keeps them. */
function checkpoints() {
  const saved: { value: unknown; options: unknown }[] = [];
  const checkpoint: AttemptContext['checkpoint'] = {
    get latest() {
      return saved.length;
    },
    save: (value, options) =>
      Promise.resolve(saved.push({ value: value instanceof Uint8Array ? value.slice() : value, options })),
    load: <T>(number = saved.length) => Promise.resolve(saved[number - 1]?.value as T | undefined),
  };
  return { saved, checkpoint };
}

const client = fileURLToPath(import.meta.resolve('@baton/client/process'));

/** The same programs in both languages. */
const languages: Record<
  string,
  { command: (stage: ProcessStage, name: string) => string[]; programs: Record<string, string> }
> = {
  python: {
    command: (stage, name) => {
      const path = join(stage.directory, `${name}.py`);
      const body = languages
        .python!.programs[name]!.trim()
        .split('\n')
        .map((line) => `    ${line}`)
        .join('\n');
      writeFileSync(
        path,
        `import baton_task, os, sys, time\ndef main(task):\n${body}\nbaton_task.run(main, reusable=${name === 'warm' ? 'True' : 'False'})\n`,
      );
      return ['python3', path];
    },
    programs: {
      echo: 'task.log("hello", 1)\ntask.progress(0.5, "half")\ntask.metric("loss", 0.25, 3)\nreturn {"input": task.input, "id": task.id, "attempt": task.attempt}',
      checkpoints:
        'assert task.load() is None\nassert task.save({"a": 1}, score=2, metadata={"k": "v"}) == 1\nbig = os.urandom(3_000_000)\nassert task.save(big) == 2\nassert task.load() == big\nassert task.load(1) == {"a": 1}\nwide = list(range(50000))\ntask.save(wide)\nassert task.load() == wide\nreturn task.checkpoint',
      fails: 'def inner():\n    raise KeyError("lost")\ninner()',
      permanent: 'raise baton_task.NonRetryable("never")',
      later: 'raise baton_task.RetryAfter(1.5)',
      gpu: 'raise baton_task.AttemptFailure("GPU_ERROR", "it fell off", device="GPU-1")',
      stops:
        'open(os.environ["STAGE"] + "/up", "w").close()\nwhile not task.stopping:\n    time.sleep(0.01)\nopen(os.environ["STAGE"] + "/" + task.stop_reason, "w").close()\ntask.check()',
      saves:
        'open(os.environ["STAGE"] + "/up", "w").close()\nn = 0\nwhile True:\n    n += 1\n    time.sleep(0.01)\n    if task.checkpoint_wanted:\n        task.save({"n": n})\n    task.check()',
      streams: 'task.output("text ")\ntask.output(b"\\x00\\x01")\nreturn b"\\x02\\x03"',
      large: 'return "x" * 200_000',
      files:
        'assert open(task.artifacts["a/b"]).read() == "handed"\nassert open(task.artifacts_in + "/a/b").read() == "handed"\nopen("own", "w").write("by path")\none = task.put("one", "own")\ntask.put("two", b"bytes")\nopen(task.artifacts_out + "/three", "w").write("left")\ntry:\n    task.put("four", "/nowhere")\nexcept FileNotFoundError:\n    pass\nassert os.listdir(task.directory).count("own") == 0\nreturn one',
      warm: 'print("pid", os.getpid(), flush=True)\nif task.input == "die":\n    os._exit(3)\nif task.input == "grow":\n    global kept\n    kept = bytearray(200 << 20)\nif task.input == "raise":\n    raise ValueError("odd")\nreturn os.getpid()',
    },
  },
  typescript: {
    command: (stage, name) => {
      const path = join(stage.directory, `${name}.ts`);
      writeFileSync(
        path,
        `import { runTask } from ${JSON.stringify(client)};\nimport { randomBytes } from 'node:crypto';\nimport { readFileSync, writeFileSync } from 'node:fs';\nimport assert from 'node:assert/strict';\nconst dir = process.env.STAGE;\nconst sleep = (ms) => new Promise((done) => setTimeout(done, ms));\nlet kept;\nawait runTask(async (input, task) => {\n${languages.typescript!.programs[name]}\n}, { reusable: ${name === 'warm'} });\n`,
      );
      return [process.execPath, '--disable-warning=ExperimentalWarning', path];
    },
    programs: {
      echo: 'task.log("hello 1"); task.progress(0.5, "half"); task.metric("loss", 0.25, 3); return { input, id: task.taskId, attempt: task.attempt };',
      checkpoints:
        'assert.equal(await task.checkpoint.load(), undefined); assert.equal(await task.checkpoint.save({ a: 1 }, { score: 2, metadata: { k: "v" } }), 1); const big = new Uint8Array(randomBytes(3_000_000)); assert.equal(await task.checkpoint.save(big), 2); assert.deepEqual(await task.checkpoint.load(), big); assert.deepEqual(await task.checkpoint.load(1), { a: 1 }); const wide = Array.from({ length: 50000 }, (_, i) => i); await task.checkpoint.save(wide); assert.deepEqual(await task.checkpoint.load(), wide); return task.checkpoint.latest;',
      fails: 'const inner = () => { const error = new Error("lost"); error.name = "KeyError"; throw error; }; inner();',
      permanent: 'const error = new Error("never"); error.name = "NonRetryable"; throw error;',
      later:
        'const error = new Error("try again later"); error.name = "RetryAfter"; error.delayMs = 1500; throw error;',
      gpu: 'const error = new Error("it fell off"); error.name = "AttemptFailure"; error.type = "GPU_ERROR"; error.device = "GPU-1"; throw error;',
      stops:
        'writeFileSync(`${dir}/up`, ""); while (!task.signal.aborted) await sleep(10); writeFileSync(`${dir}/${task.signal.reason.kind}`, ""); throw task.signal.reason;',
      saves:
        'let n = 0; task.onCheckpointNow(() => task.checkpoint.save({ n })); writeFileSync(`${dir}/up`, ""); for (;;) { n++; await sleep(10); task.signal.throwIfAborted(); }',
      streams:
        'await task.output.write("text "); await task.output.write(new Uint8Array([0, 1])); return new Uint8Array([2, 3]);',
      large: 'return "x".repeat(200_000);',
      files:
        'assert.deepEqual(task.artifacts.inputs, [{ name: "a/b", sha256: "ab".repeat(32), sizeBytes: 6 }]); assert.equal(readFileSync(await task.artifacts.get("a/b"), "utf8"), "handed"); assert.equal(readFileSync(`${await task.artifacts.directory()}/a/b`, "utf8"), "handed"); await assert.rejects(task.artifacts.get("c"), { name: "TaskRefused" }); writeFileSync("own", "by path"); const one = await task.artifacts.put("one", "own"); await task.artifacts.put("two", Buffer.from("bytes")); writeFileSync(`${task.artifactsOut}/three`, "left"); await assert.rejects(task.artifacts.put("four", "/nowhere"), { code: "ENOENT" }); return one;',
      warm: 'console.log("pid", process.pid); if (input === "die") process.exit(3); if (input === "grow") kept = Buffer.alloc(200 << 20, 1); if (input === "raise") { const error = new Error("odd"); error.name = "ValueError"; throw error; } return process.pid;',
    },
  },
};

describe.each(Object.keys(languages))('a program in %s', (language) => {
  const commandOf = (stage: ProcessStage, name: string) => languages[language]!.command(stage, name);

  test('gets its input, tells how far it is, logs, and returns', async () => {
    const stage = openProcessStage();
    const said: unknown[] = [];
    const { outcome } = stage.run(
      commandOf(stage, 'echo'),
      { ž: [1, null] },
      {
        progress: (...what) => said.push(what),
        log: (...what) => said.push(what),
      },
    );
    expect(outputOf(await outcome)).toEqual({ input: { ž: [1, null] }, id: '42', attempt: 2 });
    expect(said).toEqual([
      ['hello 1', 'log'],
      [0.5, 'half'],
      ['{"name":"loss","value":0.25,"step":3}', 'metric'],
    ]);
    const large = 'y'.repeat(300_000);
    expect(outputOf(await stage.run(commandOf(stage, 'echo'), large).outcome)).toMatchObject({ input: large });
  });

  test('saves and loads values and bytes of any size', async () => {
    const stage = openProcessStage();
    const { saved, checkpoint } = checkpoints();
    expect(outputOf(await stage.run(commandOf(stage, 'checkpoints'), null, { checkpoint }).outcome)).toBe(3);
    expect(saved[0]).toEqual({ value: { a: 1 }, options: { score: 2, metadata: { k: 'v' } } });
  });

  test.for([
    [
      'fails',
      {
        type: FailureType.EVALUATION_ERROR,
        exceptionType: 'KeyError',
        message: expect.stringContaining('lost'),
        stack: expect.stringContaining('inner'),
        nonRetryable: false,
      },
    ],
    ['permanent', { message: 'never', nonRetryable: true }],
    ['later', { retryAfterMs: 1500 }],
    ['gpu', { type: FailureType.GPU_ERROR, message: 'it fell off', device: 'GPU-1' }],
  ] as const)('what it raises is told: %s', async ([name, failure]) => {
    const stage = openProcessStage();
    expect(await stage.run(commandOf(stage, name)).outcome).toMatchObject({ kind: 'failure', failure });
  });

  test('finds the files that it is handed, and leaves some', async () => {
    const stage = openProcessStage();
    const directory = join(stage.directory, 'handed');
    mkdirSync(join(directory, 'a'), { recursive: true });
    writeFileSync(join(directory, 'a/b'), 'handed');
    const put: Record<string, string> = {};
    const artifacts: AttemptContext['artifacts'] = {
      inputs: [],
      put: async (name, source) => {
        const parts: Uint8Array[] = [];
        for await (const part of source as AsyncIterable<Uint8Array>) parts.push(part);
        put[name] = Buffer.concat(parts).toString();
        return { __baton: 'artifact', name, sha256: 'cd'.repeat(32), sizeBytes: put[name].length };
      },
      get: (name) => Promise.reject(new Error(`not asked for: ${name}`)),
      directory: () => Promise.resolve(directory),
    };
    const lease = {
      executor: { case: 'process' as const, value: { command: commandOf(stage, 'files') } },
      artifacts: { 'a/b': { sha256: 'ab'.repeat(32), sizeBytes: 6n } },
    };
    const { outcome } = start(stage.executor, lease, null, { artifacts, env: { STAGE: stage.directory } });
    expect(outputOf(await outcome)).toEqual({
      __baton: 'artifact',
      name: 'one',
      sha256: 'cd'.repeat(32),
      sizeBytes: 7,
    });
    expect(put).toEqual({ one: 'by path', two: 'bytes', three: 'left' });
  });

  test('told to stop it ends by itself', async () => {
    const stage = openProcessStage();
    const { outcome, abort } = stage.run(commandOf(stage, 'stops'));
    await vi.waitUntil(() => existsSync(join(stage.directory, 'up')), { timeout: 10_000 });
    abort.abort(new TaskStopped('hand-back', 'the worker stops'));
    expect(await outcome).toEqual({ kind: 'cancelled' });
    expect(existsSync(join(stage.directory, 'hand-back'))).toBe(true);
  });

  test('told to save now it saves', async () => {
    const stage = openProcessStage();
    const { saved, checkpoint } = checkpoints();
    let ask: (() => unknown) | undefined;
    const more = { checkpoint, onCheckpointNow: (listener: () => unknown) => (ask = listener) };
    const { outcome, abort } = stage.run(commandOf(stage, 'saves'), null, more as Partial<AttemptContext>);
    await vi.waitUntil(() => existsSync(join(stage.directory, 'up')), { timeout: 10_000 });
    await ask!();
    expect(saved).toHaveLength(1);
    abort.abort(new TaskStopped('hand-back', 'the worker stops'));
    expect(await outcome).toEqual({ kind: 'cancelled' });
  });

  test('streams, and returns bytes; a large result is uploaded or comes whole', async () => {
    const stage = openProcessStage();
    const parts: Buffer[] = [];
    const output = { write: async (data: string | Uint8Array) => void parts.push(Buffer.from(data as string)) };
    const { outcome } = stage.run(commandOf(stage, 'streams'), null, { output });
    expect([...(outputOf(await outcome) as Uint8Array)]).toEqual([2, 3]);
    expect(Buffer.concat(parts)).toEqual(Buffer.from('text \x00\x01'));
    expect(outputOf(await stage.run(commandOf(stage, 'large')).outcome)).toBe('x'.repeat(200_000));
  });

  test('kept warm it does the next task too, until it has done enough, grows, fails hard or waits too long', async () => {
    const stage = openProcessStage();
    const command = commandOf(stage, 'warm');
    const settings = { command, keepWarm: true, warmTasks: 4, warmIdleMs: 60_000 };
    const run = async (input: unknown, more = {}) => {
      const { outcome, lines } = stage.run({ ...settings, ...more }, input);
      return { outcome: await outcome, lines };
    };
    const first = await run(1);
    const pid = outputOf(first.outcome) as number;
    expect(first.lines).toEqual([`pid ${pid}`]);
    expect(stage.executor.warm?.()).toHaveLength(1);
    const second = await run(2);
    expect(outputOf(second.outcome)).toBe(pid);
    // Its lines are those of the task that it works on.
    expect(second.lines).toEqual([`pid ${pid}`]);
    expect((await run('raise')).outcome).toMatchObject({ kind: 'failure', failure: { exceptionType: 'ValueError' } });
    expect(outputOf((await run(4)).outcome)).toBe(pid);
    // It has done four.
    const other = outputOf((await run(5)).outcome);
    expect(other).not.toBe(pid);
    expect((await run('die')).outcome).toMatchObject({
      kind: 'failure',
      failure: { message: expect.stringContaining('code 3') },
    });
    const third = outputOf((await run(6)).outcome);
    expect(third).not.toBe(other);
    expect(outputOf((await run('grow')).outcome)).toBe(third);
    expect(outputOf((await run(7)).outcome)).not.toBe(third);
    expect(stage.alive(`STAGE=${stage.directory}\0`)).toHaveLength(1);
    await stage.executor.close?.();
    expect(stage.executor.warm?.()).toEqual([]);
    expect(stage.alive(`STAGE=${stage.directory}\0`)).toEqual([]);
  });
});

test('the Python helper is fine with Python 3.8', async () => {
  const stage = openProcessStage();
  const helper = fileURLToPath(new URL('../../python/baton_task.py', import.meta.url));
  const check = `import ast; ast.parse(open(${JSON.stringify(helper)}).read(), feature_version=(3, 8))`;
  expect(await stage.run(['python3', '-c', check]).outcome).toMatchObject({ kind: 'success' });
});

test('a Python program runs without a worker, too', async () => {
  const stage = openProcessStage();
  const [, path] = languages.python!.command(stage, 'echo');
  const { outcome } = stage.bash(`unset BATON_TASK_FD_IN; python3 ${path} '{"a": 1}'`, { output: 'stdout_json' });
  expect(outputOf(await outcome)).toEqual({ input: { a: 1 }, id: '0', attempt: 1 });
});
