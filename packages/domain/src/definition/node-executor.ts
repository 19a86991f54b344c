import { isMethodName } from './address.ts';
import { Fields, readAddress } from './fields.ts';
import { type NodeExecutor, PROGRAM_EXECUTORS } from './model.ts';
import { readProgram } from './node-program.ts';
import { type Problems, quote } from './problem.ts';

const GRPC_FIELDS = ['service', 'address', 'method'] as const;

const EXECUTORS = ['task', 'grpc', ...PROGRAM_EXECUTORS, 'workflow'] as const;

/** The highest version that a file may name; those of Postgres are whole numbers of 31 bits. */
const MAX_VERSION = 2_147_483_647;

/** Reads what carries a node out: one of `task`, `grpc`, `process`, `http`, `container`, `workflow`. Undefined when it is wrong, which is reported. */
export function readExecutor(
  problems: Problems,
  fields: Fields,
  services: ReadonlyMap<string, string | undefined>,
): NodeExecutor | undefined {
  const kind = fields.name('task');
  const call = fields.has('grpc') ? readCall(problems, fields, services) : undefined;
  const name = fields.name('workflow');
  const version = fields.number('version', { min: 1, max: MAX_VERSION, integer: true });
  if (fields.has('version') && !fields.has('workflow')) {
    const message = '"version" is that of a "workflow", which this node does not run';
    problems.add(fields.at('version'), 'UNKNOWN_FIELD', message, 'leave it out, or add "workflow"');
  }
  if (fields.has('artifacts') && fields.has('workflow')) {
    const message = '"artifacts" are handed to tasks, and this node runs a workflow';
    problems.add(fields.at('artifacts'), 'UNKNOWN_FIELD', message, 'leave it out, and name them in "input"');
  }
  const given = EXECUTORS.filter((field) => fields.has(field));
  if (given.length > 1) {
    const has = given.length === 2 ? 'both' : given.length === 3 ? 'all three' : 'several';
    const either = `either ${given.map(quote).join(' or ')}`;
    problems.add(fields.place, 'TWO_EXECUTORS', `a node has ${either}, this one has ${has}`, 'remove one of them');
    return undefined;
  }
  const only = given[0];
  switch (only) {
    case 'task':
      return kind === undefined ? undefined : { type: 'function', kind };
    case 'grpc':
      return call;
    case 'process':
    case 'http':
    case 'container':
      return readProgram(problems, fields, only);
    case 'workflow':
      return name === undefined ? undefined : { type: 'workflow', name, version: version ?? null };
    default: {
      const hint =
        'add "task": "kind", "grpc": { "service": "name", "method": "Service/Method" }, "process": { "command": ["program"] }, or "workflow": "name"';
      const message = `a node has one of ${EXECUTORS.map(quote).join(', ')}; this one has none`;
      problems.add(fields.place, 'NO_EXECUTOR', message, hint);
      return undefined;
    }
  }
}

function readCall(
  problems: Problems,
  node: Fields,
  services: ReadonlyMap<string, string | undefined>,
): NodeExecutor | undefined {
  const record = node.record('grpc');
  if (!record) return undefined;
  const fields = new Fields(problems, node.at('grpc'), record);
  const address = readTarget(problems, fields, services);
  const method = fields.requiredName('method');
  fields.refuseUnknown(GRPC_FIELDS);
  if (method !== undefined && !isMethodName(method)) {
    const message = `${quote(method)} names no method`;
    const hint = 'write "Service/Method" or "package.Service/Method", without a slash in front';
    problems.add(fields.at('method'), 'MALFORMED_METHOD', message, hint);
    return undefined;
  }
  return address === undefined || method === undefined ? undefined : { type: 'grpc', address, method };
}

function readTarget(
  problems: Problems,
  fields: Fields,
  services: ReadonlyMap<string, string | undefined>,
): string | undefined {
  const service = fields.text('service');
  const address = fields.has('address')
    ? readAddress(problems, fields.at('address'), fields.raw('address'), '"address"')
    : undefined;
  if (fields.has('service') && fields.has('address')) {
    const message = 'a call has either "service" or "address", this one has both';
    problems.add(fields.place, 'TWO_ADDRESSES', message, 'remove one of them');
    return undefined;
  }
  if (!fields.has('service') && !fields.has('address')) {
    const hint = 'add "service" (a name in "services") or "address" ("host:port")';
    problems.add(fields.place, 'MISSING_ADDRESS', 'a call needs "service" or "address"', hint);
    return undefined;
  }
  if (service !== undefined && !services.has(service)) {
    const hint = problems.didYouMean(service, services.keys()) ?? 'add it to "services" as "host:port"';
    problems.add(fields.at('service'), 'UNKNOWN_SERVICE', `the service ${quote(service)} is not in "services"`, hint);
  }
  return service === undefined ? address : services.get(service);
}
