import { type FSWatcher, statSync, watch } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { importAnew } from './module-versions.ts';
import { byId, isRunnable, type Runnable, type TaskSource } from './task-definition.ts';

/** Editors write a file in several steps; the last of them counts. */
const settleMs = 50;

/** A module of tasks cannot be used. The cause says why. */
export class TaskModuleError extends Error {
  override readonly name = 'TaskModuleError';
  readonly path: string;

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`${path}: ${reason}`, options);
    this.path = path;
  }
}

export interface LoadOptions {
  /** Relative paths start here. Default: the working directory. */
  readonly base?: string;
  /** Follow changes of the modules and of what they import by relative paths. For development. Default false. */
  readonly watch?: boolean;
  /** Told after each reload. */
  readonly onReload?: (path: string, kinds: readonly string[]) => void;
  /** Told why an edited module is not used; the tasks that were there before stay. */
  readonly onError?: (error: TaskModuleError) => void;
}

/**
 * Imports modules and takes every task that they export, alone or in an array. With `watch`, an edited module is imported
 * anew when it is saved: attempts that run finish on the code that they started on, new ones use the new code.
 * Throws `TaskModuleError` for a module that cannot be imported or has no task, `DuplicateTaskError`.
 */
export async function loadTasks(modulePaths: readonly string[], options: LoadOptions = {}): Promise<TaskSource> {
  const modules = modulePaths.map((path) => new TaskModule(resolve(options.base ?? '.', path), options));
  for (const module of modules) {
    await module.load();
  }
  let tasks = byId(modules.flatMap((module) => module.tasks));
  const listeners: (() => void)[] = [];
  for (const module of modules) {
    module.follow(() => {
      const before = [...tasks.keys()].join('\n');
      tasks = byId(modules.flatMap((each) => each.tasks));
      if ([...tasks.keys()].join('\n') !== before) {
        for (const listener of listeners) {
          listener();
        }
      }
    });
  }
  return {
    get: (kind) => tasks.get(kind),
    get kinds() {
      return [...tasks.keys()];
    },
    moduleOf: (kind) => modules.find((module) => module.tasks.some(({ id }) => id === kind))?.url,
    onKindsChange: (listener) => listeners.push(listener),
    close() {
      for (const module of modules) {
        module.close();
      }
    },
  };
}

class TaskModule {
  tasks: readonly Runnable[] = [];
  /** Of its file as it was last loaded. */
  url: string;
  readonly #path: string;
  readonly #options: LoadOptions;
  readonly #files = new Set<string>();
  readonly #watchers = new Map<string, FSWatcher>();
  #signature = '';
  #timer: NodeJS.Timeout | undefined;
  #loading = false;
  #onChange: (() => void) | undefined;

  constructor(path: string, options: LoadOptions) {
    this.#path = path;
    this.#options = options;
    this.url = pathToFileURL(path).href;
  }

  /** Takes the module's tasks as it is now; throws, and keeps those it has, when it cannot. */
  async load(): Promise<void> {
    const url = pathToFileURL(this.#path).href;
    let exports: Readonly<Record<string, unknown>>;
    try {
      exports = this.#options.watch ? await importAnew(url, this.#files) : await import(url);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new TaskModuleError(this.#path, `cannot be imported: ${reason}`, { cause: error });
    }
    const tasks = Object.values(exports).flat().filter(isRunnable);
    if (tasks.length === 0) {
      throw new TaskModuleError(
        this.#path,
        'exports no task and no workflow; write `export const name = task({ id, run })`',
      );
    }
    this.tasks = [...byId(tasks).values()];
    // An isolate that has imported an earlier version is not one of this version.
    if (this.#options.watch) this.url = `${url}?saved=${statSync(this.#path).mtimeMs}`;
  }

  follow(onChange: () => void): void {
    if (this.#options.watch) {
      this.#onChange = onChange;
      this.#signature = this.#sign();
      this.#watch();
    }
  }

  close(): void {
    clearTimeout(this.#timer);
    for (const watcher of this.#watchers.values()) {
      watcher.close();
    }
    this.#watchers.clear();
  }

  // Directories and not files: an editor that saves by renaming leaves the watcher of a file with the old one.
  #watch(): void {
    for (const file of this.#files) {
      const directory = dirname(file);
      if (!this.#watchers.has(directory)) {
        const watcher = watch(directory, () => this.#soon());
        watcher.unref();
        watcher.on('error', (error) =>
          this.#report(new TaskModuleError(this.#path, 'cannot be watched', { cause: error })),
        );
        this.#watchers.set(directory, watcher);
      }
    }
  }

  #soon(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#reload(), settleMs);
  }

  async #reload(): Promise<void> {
    const signature = this.#sign();
    if (this.#loading || signature === this.#signature) {
      return;
    }
    this.#loading = true;
    this.#signature = signature;
    const before = this.tasks;
    try {
      await this.load();
      this.#onChange?.();
      this.#options.onReload?.(
        this.#path,
        this.tasks.map(({ id }) => id),
      );
    } catch (error) {
      // Also an id that another module has: this module goes back as a whole.
      this.tasks = before;
      this.#report(
        error instanceof TaskModuleError
          ? error
          : new TaskModuleError(this.#path, error instanceof Error ? error.message : String(error), { cause: error }),
      );
    }
    this.#loading = false;
    this.#watch();
    // It may have been saved again meanwhile.
    this.#soon();
  }

  #report(error: TaskModuleError): void {
    this.#options.onError?.(error);
  }

  /** Changes when any of the files does. */
  #sign(): string {
    return Array.from(this.#files, (file) => {
      const stat = statSync(file, { throwIfNoEntry: false });
      return `${file} ${stat?.mtimeMs} ${stat?.size} ${stat?.ino}`;
    }).join('\n');
  }
}
