import { create, type DescField, type DescMessage, type Message, ScalarType } from '@bufbuild/protobuf';
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect';

/** Messages within messages are filled so deep; below they are left empty. */
const DEPTH = 3;

/**
 * A message with every field set to something that is not its default. Of each oneof, one member is set: the
 * `variant`-th, counted round.
 */
export function sampleMessage(desc: DescMessage, variant = 0, depth = DEPTH): Message {
  const message = reflect(desc, create(desc));
  for (const field of desc.fields) {
    const { oneof } = field;
    if (oneof !== undefined && oneof.fields[variant % oneof.fields.length] !== field) continue;
    fill(message, field, variant, depth);
  }
  return message.message;
}

/** How many variants it takes to set every member of its oneofs once. */
export function variantsOf(desc: DescMessage): number {
  return Math.max(1, ...desc.oneofs.map(({ fields }) => fields.length));
}

function fill(message: ReflectMessage, field: DescField, variant: number, depth: number): void {
  const nested = (desc: DescMessage): ReflectMessage | undefined => {
    return depth === 0 ? undefined : reflect(desc, sampleOf(desc, variant, depth - 1));
  };
  switch (field.fieldKind) {
    case 'scalar':
      message.set(field, scalar(field.scalar));
      break;
    case 'enum':
      message.set(field, field.enum.values.at(-1)!.number);
      break;
    case 'message': {
      const value = nested(field.message);
      if (value !== undefined) message.set(field, value);
      break;
    }
    case 'list': {
      const value = elementOf(field, nested);
      if (value !== undefined) message.get(field).add(value);
      break;
    }
    case 'map': {
      const value = elementOf(field, nested);
      if (value !== undefined) message.get(field).set(mapKey(field.mapKey), value);
      break;
    }
  }
}

function elementOf(
  field: DescField & { fieldKind: 'list' | 'map' },
  nested: (desc: DescMessage) => ReflectMessage | undefined,
): unknown {
  if (field.message !== undefined) return nested(field.message);
  if (field.enum !== undefined) return field.enum.values.at(-1)!.number;
  return scalar(field.scalar!);
}

/** Those of Google have rules of their own for what they may hold, above all in JSON. */
function sampleOf(desc: DescMessage, variant: number, depth: number): Message {
  switch (desc.typeName) {
    case 'google.protobuf.Timestamp':
    case 'google.protobuf.Duration':
      return create(desc, { seconds: 1_234n, nanos: 567_000_000 } as Record<string, unknown>);
    case 'google.protobuf.Value':
      return create(desc, { kind: { case: 'stringValue', value: 'ä € 𝄞' } } as Record<string, unknown>);
    case 'google.protobuf.Any':
      return create(desc);
    default:
      return sampleMessage(desc, variant, depth);
  }
}

function scalar(type: ScalarType): unknown {
  switch (type) {
    case ScalarType.STRING:
      return 'ä € 𝄞 "\\';
    case ScalarType.BYTES:
      return new Uint8Array([0, 1, 127, 128, 255]);
    case ScalarType.BOOL:
      return true;
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return 0.5;
    case ScalarType.INT64:
    case ScalarType.SINT64:
    case ScalarType.SFIXED64:
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return 2n ** 62n + 1n; // lost if it ever became a number of JavaScript
    default:
      return 2 ** 30 + 1;
  }
}

function mapKey(type: ScalarType): string | number | bigint | boolean {
  return type === ScalarType.STRING ? '__proto__' : (scalar(type) as number | bigint | boolean);
}
