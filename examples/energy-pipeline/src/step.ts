/** What a caller of `ContainerExecutor.Execute` names: paths as configured, relative to the service's working directory. */
export interface StepRequest {
  /** Empty means "none": only the generator can do without. */
  readonly inputFile: string;
  readonly outputFile: string;
}

/** Called right before the first byte is written; rejects when the call is over, so that an abandoned call writes nothing. */
export type BeforeWrite = () => Promise<void>;

/** One step of the pipeline: reads, computes, writes, and says in a sentence what it did. */
export type Step = (request: StepRequest, beforeWrite: BeforeWrite) => Promise<string>;

/** A step cannot go on, for a reason the caller can act on. It becomes `success: false` with this message. */
export class StepError extends Error {
  override readonly name = 'StepError';
}
