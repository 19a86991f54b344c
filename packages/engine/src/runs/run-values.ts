import type { ExpressionContext, Failure, JsonObject, JsonValue, NodeView } from '@baton/domain';
import { type Encoding, itemOutputs, type NodeOutput, namespaceName, runOutputs, taskOutputs } from '@baton/store';
import { createCoalescer } from '../coalescer.ts';
import type { Blobs } from '../data/blobs.ts';
import { sha256 } from '../data/digest.ts';
import type { EngineEnvironment } from '../environment.ts';
import { expressions } from './expressions.ts';
import type { NamedBlob, RunContext } from './run-context.ts';

const ITEM_PAGE = 5_000;
const BLOB_CHUNK = 1024 * 1024;
/** Of a larger blob no part is read: a master advances many runs at once. */
const READ_BLOB_BYTES = 16 * 1024 * 1024;

/** What inputs and expressions see of a run: read when it is wanted, together for all runs that are stepped at once. */
export interface RunValues {
  /** Sees to it that the outputs of these nodes are at hand, and of `parts` what is in those that are blobs. */
  load(context: RunContext, nodes: readonly number[], parts: readonly number[]): Promise<void>;
  /** Why a part of one of these outputs cannot be had; null: nothing is in the way. */
  unreadable(context: RunContext, parts: readonly number[]): string | null;
  inputOf(context: RunContext): JsonValue;
  /** For `$from`: by id the outputs of these nodes; of a blob its name, or its content for `parts`. */
  outputsOf(context: RunContext, nodes: readonly number[], parts: readonly number[]): Map<string, JsonValue>;
  expressionContext(
    context: RunContext,
    nodes: readonly number[],
    parts: readonly number[],
    item?: { index: number; item: JsonValue; isMatrix: boolean },
  ): ExpressionContext;
  /** Bytes as they are stored: by themselves, or as a blob where they are many. */
  place(namespaceId: number, bytes: Uint8Array): Promise<{ bytes: Uint8Array | null; blob: string | null }>;
}

export function createRunValues(env: EngineEnvironment, blobs: Blobs): RunValues {
  const { pools, settings } = env;
  const tasks = reader((ids) => taskOutputs(pools.api, ids));
  const runs = reader((ids) => runOutputs(pools.api, ids));
  const names = new Map<number, string>();

  function reader(read: (ids: string[]) => Promise<Map<string, NodeOutput>>) {
    return createCoalescer<string, NodeOutput | null>({
      endOfTurn: env.endOfTurn,
      maxItems: 2_000,
      inFlight: 2,
      async run(ids) {
        const found = await read(ids);
        return ids.map((id) => found.get(id) ?? null);
      },
    });
  }

  async function listOf(context: RunContext, node: number): Promise<JsonValue> {
    const total = context.itemTotals.get(node) ?? 0;
    const list: JsonValue[] = new Array(total).fill(null);
    for (let after = -1; after < total - 1; after += ITEM_PAGE) {
      const page = { runId: context.run.id, ordinal: node + 1 };
      // A page is a range of items, some of which may have no output.
      for (const row of await itemOutputs(pools.api, page, after, ITEM_PAGE))
        if (row.item < total) list[row.item] = outputValue(row);
    }
    return list;
  }

  async function read(context: RunContext, node: number): Promise<void> {
    const { progress, taskIds, childIds, outputs, itemTotals, workflow } = context;
    if (outputs.has(node)) return;
    context.loaded.add(node);
    const { forEach, onFailure } = workflow.definition.nodes[node]!;
    const state = progress.state(node);
    if (state !== 'succeeded' && !(forEach && state === 'failed' && onFailure === 'continue')) {
      outputs.set(node, null);
      return;
    }
    if (forEach && itemTotals.has(node)) {
      outputs.set(node, await listOf(context, node));
      return;
    }
    const output = childIds[node]
      ? await runs.add(childIds[node]!)
      : taskIds[node]
        ? await tasks.add(taskIds[node]!)
        : null;
    outputs.set(node, output ? outputValue(output) : null);
    if (output?.blob) context.blobs.set(node, { ...output.blob, encoding: output.encoding });
  }

  async function readContent(context: RunContext, node: number): Promise<void> {
    const blob = context.blobs.get(node);
    if (!blob || !isReadable(blob) || context.contents.has(node)) return;
    const bytes = new Uint8Array(blob.sizeBytes);
    const name = await nameOf(context.run.namespaceId);
    for await (const { offset, data } of blobs.read(name, blob.sha256, 0)) bytes.set(data, offset);
    context.contents.set(node, decode(bytes, blob.encoding));
  }

  async function nameOf(namespaceId: number): Promise<string> {
    let name = names.get(namespaceId);
    if (name === undefined) {
      name = await namespaceName(pools.api, namespaceId);
      names.set(namespaceId, name);
    }
    return name;
  }

  const valueFor = (context: RunContext, node: number, parts: readonly number[]): JsonValue =>
    (parts.includes(node) ? context.contents.get(node) : undefined) ?? context.outputs.get(node) ?? null;

  const inputOf = (context: RunContext): JsonValue => {
    if (context.input === undefined) context.input = decode(context.run.input, context.run.inputEncoding);
    return context.input;
  };

  return {
    inputOf,
    async load(context, nodes, parts) {
      const missing = [...new Set(nodes)].filter((node) => !context.outputs.has(node));
      if (missing.length > 0) await Promise.all(missing.map((node) => read(context, node)));
      if (context.blobs.size > 0) for (const node of new Set(parts)) await readContent(context, node);
    },
    unreadable(context, parts) {
      for (const node of parts) {
        const blob = context.blobs.get(node);
        if (!blob || isReadable(blob)) continue;
        const id = JSON.stringify(context.workflow.graph.nodes[node]!.id);
        const why =
          blob.encoding === 1
            ? `of ${blob.sizeBytes} bytes; of at most ${READ_BLOB_BYTES} a part can be read`
            : 'that holds bytes and not JSON';
        return `a part of the output of node ${id} is wanted, which is a blob ${why}: hand it on whole, by { "$from": ${id} }, to a task that reads it`;
      }
      return null;
    },
    outputsOf(context, nodes, parts) {
      const { graph } = context.workflow;
      return new Map(nodes.map((node) => [graph.nodes[node]!.id, valueFor(context, node, parts)]));
    },
    expressionContext(context, nodes, parts, item) {
      const { graph } = context.workflow;
      const views = new Map<string, NodeView>();
      for (const node of nodes)
        views.set(graph.nodes[node]!.id, {
          state: context.progress.state(node),
          output: valueFor(context, node, parts),
          failure: failureView(context.failures.get(node)),
        });
      return {
        expressions,
        variables: {
          input: inputOf(context),
          nodes: views,
          run: { id: context.run.id, execution: context.run.execution },
          ...(item && { index: item.index }),
          ...(item && !item.isMatrix && { item: item.item }),
          ...(item?.isMatrix && { matrix: item.item as JsonObject }),
        },
      };
    },
    async place(namespaceId, bytes) {
      if (bytes.byteLength <= settings.maxInputBytes) return { bytes, blob: null };
      const name = await nameOf(namespaceId);
      const hash = hexOf(await sha256(bytes));
      const upload = await blobs.begin(name, { sizeBytes: bytes.byteLength, sha256: hash });
      if ('uploadId' in upload) {
        for (let at = 0; at < bytes.byteLength; at += BLOB_CHUNK)
          await blobs.append(name, upload.uploadId, at, bytes.subarray(at, at + BLOB_CHUNK));
        await blobs.commit(name, upload.uploadId, hash);
      }
      return { bytes: null, blob: hash };
    },
  };
}

const isReadable = (blob: NamedBlob) => blob.encoding === 1 && blob.sizeBytes <= READ_BLOB_BYTES;

const hexOf = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** What an input sees of an output. Of a blob: what names it, in the form that clients know; its bytes would be too many. */
export function outputValue({ output, encoding, blob }: NodeOutput): JsonValue {
  if (blob) return { __baton: 'blob', ...blob, encoding: encoding === 1 ? 'json' : 'bytes' };
  return decode(output, encoding);
}

/** Bytes of a payload as a JSON value; bytes of the user's own as base64 text. */
export function decode(payload: Uint8Array | null, encoding: Encoding): JsonValue {
  if (!payload || payload.byteLength === 0) return null;
  if (encoding === 1) return JSON.parse(new TextDecoder().decode(payload)) as JsonValue;
  let binary = '';
  for (let at = 0; at < payload.byteLength; at += 8192)
    binary += String.fromCharCode(...payload.subarray(at, at + 8192));
  return btoa(binary);
}

function failureView(failure: Failure | undefined): JsonObject | null {
  return failure ? (JSON.parse(JSON.stringify(failure)) as JsonObject) : null;
}
