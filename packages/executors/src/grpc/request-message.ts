import {
  type DescMessage,
  fromJson,
  type JsonObject,
  type JsonValue,
  type Message,
  type Registry,
} from '@bufbuild/protobuf';

/** A value does not fit the message that it is to become. The message of the error names the field: `task.retry.factor`. */
export class InvalidRequestError extends Error {
  override readonly name = 'InvalidRequestError';
}

/** Makes a message of a JSON value. Throws `InvalidRequestError`; a field that the message has not is an error too. */
export function messageFromJson(desc: DescMessage, json: JsonValue, registry: Registry | undefined): Message {
  try {
    return fromJson(desc, json, { registry, ignoreUnknownFields: false });
  } catch (error) {
    const path = faultyPath(desc, json, registry);
    const reason = error instanceof Error ? error.message : String(error);
    throw new InvalidRequestError(path.length === 0 ? reason : `${path.join('.')}: ${reason}`, { cause: error });
  }
}

/** The decoder names a field only where the field's own type is at fault: look for it, level by level. */
function faultyPath(desc: DescMessage, json: JsonValue, registry: Registry | undefined): string[] {
  // The well-known types have forms of their own, and no fields to go into.
  if (!isObject(json) || desc.typeName.startsWith('google.protobuf.')) {
    return [];
  }
  const key = Object.keys(json).find((each) => !fits(desc, { [each]: json[each]! }, registry));
  if (key === undefined) {
    return [];
  }
  const field = desc.fields.find(({ name, jsonName }) => name === key || jsonName === key);
  const value = json[key]!;
  if (field?.fieldKind === 'message') {
    return [key, ...faultyPath(field.message, value, registry)];
  }
  if (field?.fieldKind === 'list' && field.listKind === 'message' && Array.isArray(value)) {
    const at = value.findIndex((item) => !fits(field.message, item, registry));
    return at < 0 ? [key] : [key, String(at), ...faultyPath(field.message, value[at]!, registry)];
  }
  return [key];
}

function fits(desc: DescMessage, json: JsonValue, registry: Registry | undefined): boolean {
  try {
    fromJson(desc, json, { registry, ignoreUnknownFields: false });
    return true;
  } catch {
    return false;
  }
}

function isObject(json: JsonValue): json is JsonObject {
  return typeof json === 'object' && json !== null && !Array.isArray(json);
}
