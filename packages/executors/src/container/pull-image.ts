import type { AttemptContext } from '@baton/runtime';
import type Docker from 'dockerode';

/** The image is not to be had. `permanent`: nor will it be. */
export class ImageError extends Error {
  override readonly name = 'ImageError';
  readonly permanent: boolean;

  constructor(message: string, permanent: boolean, options?: ErrorOptions) {
    super(message, options);
    this.permanent = permanent;
  }
}

interface PullEvent {
  readonly id?: string;
  readonly status?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

/** Pulls that are under way, by image: many tasks of one image pull it once. */
export class ImagePuller {
  readonly #docker: Docker;
  readonly #running = new Map<
    string,
    { promise: Promise<void>; heard: Set<(fraction: number, words: string) => void> }
  >();

  constructor(docker: Docker) {
    this.#docker = docker;
  }

  /**
   * Makes sure that an image is there.
   *
   * @param policy `if_not_present` (or empty), `always` or `never`
   * @param secret `user:password` for its registry
   * @throws ImageError; what the daemon's connection throws
   */
  async ensure(
    image: string,
    policy: string,
    secret: string | undefined,
    platform: string,
    context: Pick<AttemptContext, 'log' | 'progress'>,
  ): Promise<void> {
    if (policy !== 'always' && (await this.#isThere(image))) return;
    if (policy === 'never')
      throw new ImageError(`the image ${image} is not on this machine, and is not to be pulled`, true);
    const key = JSON.stringify([image, secret, platform]);
    let pull = this.#running.get(key);
    if (pull === undefined) {
      const heard = new Set<(fraction: number, words: string) => void>();
      const promise = this.#pull(image, secret, platform, (fraction, words) => {
        for (const each of heard) each(fraction, words);
      }).finally(() => this.#running.delete(key));
      pull = { promise, heard };
      this.#running.set(key, pull);
    }
    const hear = (fraction: number, words: string) => context.progress(fraction, words);
    pull.heard.add(hear);
    context.log(`pulling ${image}`);
    try {
      await pull.promise;
    } finally {
      pull.heard.delete(hear);
    }
  }

  async #isThere(image: string): Promise<boolean> {
    try {
      await this.#docker.getImage(image).inspect();
      return true;
    } catch (error) {
      if (statusOf(error) === 404) return false;
      throw error;
    }
  }

  async #pull(
    image: string,
    secret: string | undefined,
    platform: string,
    onProgress: (fraction: number, words: string) => void,
  ): Promise<void> {
    const [username = '', ...password] = (secret ?? '').split(':');
    let stream: NodeJS.ReadableStream;
    try {
      stream = await this.#docker.pull(image, {
        ...(platform !== '' && { platform }),
        ...(secret !== undefined && { authconfig: { username, password: password.join(':') } }),
      });
    } catch (error) {
      throw pullError(image, error);
    }
    let said = '';
    const layers = new Map<string, { current: number; total: number }>();
    await new Promise<void>((resolve, reject) => {
      this.#docker.modem.followProgress(
        stream,
        (error: Error | null) => (error ? reject(pullError(image, error)) : resolve()),
        ({ id, status = '', error, progressDetail }: PullEvent) => {
          if (error !== undefined) {
            said = error;
            return;
          }
          if (id !== undefined && progressDetail?.total !== undefined)
            layers.set(id, { current: progressDetail.current ?? 0, total: progressDetail.total });
          const all = [...layers.values()];
          const total = all.reduce((sum, layer) => sum + layer.total, 0);
          const current = all.reduce((sum, layer) => sum + layer.current, 0);
          onProgress(total > 0 ? current / total : 0, `pulling ${image}: ${status}`);
        },
      );
    });
    // Some daemons tell of a failure as of any other news.
    if (!(await this.#isThere(image))) throw pullError(image, said || 'the daemon pulled it, and has it not');
  }
}

/** No such image, no such user, no such name: that stays. Anything else may pass. */
function pullError(image: string, error: unknown): ImageError {
  const words = error instanceof Error ? error.message : String(error);
  const status = statusOf(error);
  const permanent =
    status === 404 || status === 400 || /not found|manifest unknown|unauthorized|denied|invalid reference/i.test(words);
  return new ImageError(`the image ${image} cannot be pulled: ${words.slice(0, 1_000)}`, permanent, { cause: error });
}

export function statusOf(error: unknown): number | undefined {
  return typeof error === 'object' && error !== null && 'statusCode' in error && typeof error.statusCode === 'number'
    ? error.statusCode
    : undefined;
}
