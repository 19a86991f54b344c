import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A podman of one's own, with its Docker-compatible API. */
export interface TestContainers {
  readonly socketPath: string;
  /** Process of the service. */
  readonly servicePid: number;
  /** An image of busybox alone: sh, cat, sleep, … */
  readonly image: string;
  /** `podman …` beside the API. */
  podman(...args: string[]): Promise<string>;
  /** Removes what is left of it. */
  close(): Promise<void>;
}

const BUSYBOX = '/bin/busybox';

/**
 * Starts podman's service with storage of its own, and makes a small image. Needs Debian's podman, runc and busybox-static.
 *
 * @throws Error that names what is missing
 */
export async function startContainers(): Promise<TestContainers> {
  if (!existsSync('/usr/bin/podman') || !existsSync(BUSYBOX)) {
    throw new Error(
      'tests of containers need podman: apt-get install --no-install-recommends podman runc netavark aardvark-dns iptables uidmap slirp4netns busybox-static',
    );
  }
  const home = await mkdtemp(join(tmpdir(), 'baton-podman-'));
  const conf = join(home, 'containers.conf');
  const storage = join(home, 'storage.conf');
  await writeFile(
    conf,
    [
      '[engine]',
      'runtime="runc"',
      'cgroup_manager="cgroupfs"',
      'events_logger="file"',
      `tmp_dir="${home}/tmp"`,
      '[containers]',
      'default_ulimits=["nofile=1024:4096","nproc=4096:4096"]',
      'log_driver="k8s-file"',
    ].join('\n'),
  );
  await writeFile(storage, `[storage]\ndriver="vfs"\nrunroot="${home}/run"\ngraphroot="${home}/graph"\n`);
  const env = { ...process.env, CONTAINERS_CONF: conf, CONTAINERS_STORAGE_CONF: storage };
  const podman = async (...args: string[]) => (await run('podman', args, { env, maxBuffer: 64 << 20 })).stdout;

  const rootfs = join(home, 'rootfs');
  for (const directory of ['bin', 'tmp', 'etc']) await mkdir(join(rootfs, directory), { recursive: true });
  await chmod(join(rootfs, 'tmp'), 0o1777);
  await copyFile(BUSYBOX, join(rootfs, 'bin/busybox'));
  for (const name of [
    'sh',
    'cat',
    'echo',
    'sleep',
    'env',
    'id',
    'ls',
    'head',
    'tail',
    'yes',
    'dd',
    'touch',
    'kill',
    'setsid',
    'pwd',
  ])
    await symlink('busybox', join(rootfs, 'bin', name));
  await writeFile(join(rootfs, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\nsomebody:x:1000:1000::/tmp:/bin/sh\n');
  const image = 'localhost/baton/tiny:1';
  await run('sh', ['-c', `tar -C "$1" -c . | podman import - ${image}`, 'sh', rootfs], { env });

  // Where the machine itself lets no container be made, that is what is said, and not what a test expected.
  await podman('run', '--rm', '--network=none', image, 'sh', '-c', ':');

  const socketPath = join(home, 'api.sock');
  const service = spawn('podman', ['system', 'service', '--time=0', `unix://${socketPath}`], {
    env,
    // conmon leaves a file where it runs.
    cwd: home,
    stdio: 'ignore',
  });
  const gone = new Promise<void>((resolve) => service.on('exit', () => resolve()));
  while (!(await answers(socketPath))) {
    if (service.exitCode !== null) throw new Error(`podman's service ended with ${service.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return {
    socketPath,
    servicePid: service.pid!,
    image,
    podman,
    async close() {
      await podman('rm', '--all', '--force', '--time=0').catch(() => {});
      service.kill('SIGKILL');
      await gone;
      // What is still mounted cannot be removed: podman unmounts it.
      await podman('umount', '--all').catch(() => {});
      await rm(home, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const sent = request({ socketPath, path: '/_ping' }, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    });
    sent.on('error', () => resolve(false));
    sent.end();
  });
}
