import type { FieldViolation } from './refusal.ts';
import type { Resources } from './resources.ts';

/** What a worker must be for a task, beside its class and tags. */
export interface Requirements {
  /** Any of these; empty: any at all. */
  readonly os?: readonly string[] | undefined;
  /** All of these: `ffmpeg`, `ffmpeg>=5.1`. */
  readonly tools?: readonly string[] | undefined;
  /** An expression over `worker` and `gpu` that must be true; empty: none. */
  readonly selector?: string | undefined;
}

/** All that a task needs beside class, tags, kind and executor: what lanes are told apart by. Always in the same form for the same needs. */
export interface Needs {
  readonly resources?: Resources;
  readonly os?: readonly string[];
  readonly tools?: readonly string[];
  readonly selector?: string;
}

export interface Tool {
  readonly name: string;
  /** Empty: not known. */
  readonly version: string;
}

export const MAX_REQUIRED_OS = 16;
export const MAX_REQUIRED_TOOLS = 64;
const MAX_TOOL_LENGTH = 200;

const TOOL = /^([a-z0-9_][a-z0-9_.+-]*?)\s*(?:(>=|<=|==|=|>|<)\s*v?(\d+(?:\.\d+)*))?$/i;

interface ToolDemand {
  readonly name: string;
  readonly relation: string | undefined;
  readonly version: string | undefined;
}

function readTool(text: string): ToolDemand | null {
  const match = text.length <= MAX_TOOL_LENGTH ? TOOL.exec(text.trim()) : null;
  return match && { name: match[1]!.toLowerCase(), relation: match[2] === '==' ? '=' : match[2], version: match[3] };
}

/** The names by which systems call themselves, as one. */
const SAME_OS: Readonly<Record<string, string>> = {
  macos: 'darwin',
  mac: 'darwin',
  osx: 'darwin',
  win32: 'windows',
  win: 'windows',
};

export function osName(text: string): string {
  const name = text.trim().toLowerCase();
  return SAME_OS[name] ?? name;
}

/** All that is wrong with requirements but for the selector's sense, which the language of expressions knows. */
export function requirementViolations(requirements: Requirements, field: string): FieldViolation[] {
  const violations: FieldViolation[] = [];
  const { os = [], tools = [] } = requirements;
  if (os.length > MAX_REQUIRED_OS)
    violations.push({ field: `${field}.os`, description: `has ${os.length} names, ${MAX_REQUIRED_OS} is the most` });
  for (const [i, name] of os.entries())
    if (!/^[a-z0-9][a-z0-9 ._-]{0,49}$/i.test(name.trim()))
      violations.push({
        field: `${field}.os[${i}]`,
        description: 'must be the name of a system: linux, darwin, windows',
      });
  if (tools.length > MAX_REQUIRED_TOOLS)
    violations.push({
      field: `${field}.tools`,
      description: `has ${tools.length} tools, ${MAX_REQUIRED_TOOLS} is the most`,
    });
  for (const [i, tool] of tools.entries())
    if (readTool(tool) === null)
      violations.push({
        field: `${field}.tools[${i}]`,
        description: "must be a tool's name, or a name with a version: ffmpeg, ffmpeg>=5.1",
      });
  return violations;
}

/** The needs of a task in their one form; null: it has none. Resources are complete. */
export function needsOf(resources: Resources | null, requirements: Requirements): Needs | null {
  const os = [...new Set((requirements.os ?? []).map(osName))].sort();
  const tools = [...new Set((requirements.tools ?? []).map(toolText))].sort();
  const selector = requirements.selector?.trim() ?? '';
  const needs: Needs = {
    ...(resources && {
      resources: {
        cpus: resources.cpus,
        memoryBytes: resources.memoryBytes,
        gpus: resources.gpus,
        gpuMemoryBytes: resources.gpuMemoryBytes,
        gpuModel: resources.gpuModel,
      },
    }),
    ...(os.length > 0 && { os }),
    ...(tools.length > 0 && { tools }),
    ...(selector !== '' && { selector }),
  };
  return Object.keys(needs).length > 0 ? needs : null;
}

/** Needs as text, the same for the same needs, whatever order a database gives their fields. */
export function needsText(needs: Needs | null): string {
  if (!needs) return '';
  const { resources, os, tools, selector } = needs;
  const r = resources && [
    resources.cpus,
    resources.memoryBytes,
    resources.gpus,
    resources.gpuMemoryBytes,
    resources.gpuModel,
  ];
  return JSON.stringify([r ?? null, os ?? null, tools ?? null, selector ?? null]);
}

function toolText(text: string): string {
  const tool = readTool(text);
  return tool ? `${tool.name}${tool.relation ?? ''}${tool.version ?? ''}` : text;
}

/** Whether one of these tools is the one that is asked for. A tool whose version is not known has none that could be compared. */
export function hasTool(tools: readonly Tool[], asked: string): boolean {
  const demand = readTool(asked);
  if (!demand) return false;
  return tools.some(({ name, version }) => {
    if (name.toLowerCase() !== demand.name) return false;
    if (!demand.relation || !demand.version) return true;
    const order = compareVersions(version, demand.version);
    if (order === null) return false;
    if (demand.relation === '>=') return order >= 0;
    if (demand.relation === '<=') return order <= 0;
    if (demand.relation === '>') return order > 0;
    if (demand.relation === '<') return order < 0;
    return order === 0;
  });
}

/** By their numbers, to as many places as the second has: 5.1.4 is equal to 5.1. Null: the first has no number. */
function compareVersions(version: string, asked: string): number | null {
  const found = /\d+(?:\.\d+)*/.exec(version)?.[0];
  if (found === undefined) return null;
  const [have, want] = [found.split('.').map(Number), asked.split('.').map(Number)];
  for (const [i, number] of want.entries()) {
    const order = (have[i] ?? 0) - number;
    if (order !== 0) return order;
  }
  return 0;
}
