/**
 * Prints buf/validate/validate.proto from the descriptor inside @bufbuild/protovalidate, so that the vendored source is
 * exactly what the validator at runtime understands, and no registry is needed. Run it after an update of that package:
 *
 *   node tools/print-validate-proto.ts > proto/third_party/buf/validate/validate.proto
 */
import {
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescMessage,
  getExtension,
  hasExtension,
  ScalarType,
} from '@bufbuild/protobuf';
import { FieldDescriptorProto_Type } from '@bufbuild/protobuf/wkt';
import {
  file_buf_validate_validate,
  type PredefinedRules,
  predefined,
} from '@bufbuild/protovalidate/gen/buf/validate/validate_pb.js';

const file = file_buf_validate_validate;
const lines: string[] = [];
const put = (depth: number, text: string): void => {
  lines.push(text === '' ? '' : `${'  '.repeat(depth)}${text}`);
};

// A JSON string is a valid proto string literal for what stands in this file (quotes, backslashes, newlines, ASCII).
const literal = (text: string): string => JSON.stringify(text);

function typeName(field: DescField | DescExtension): string {
  if (field.fieldKind === 'map') {
    const value =
      field.mapKind === 'scalar' ? ScalarType[field.scalar].toLowerCase() : (field.message ?? field.enum).typeName;
    return `map<${ScalarType[field.mapKey].toLowerCase()}, ${value}>`;
  }
  if (field.message) return `.${field.message.typeName}`;
  if (field.enum) return `.${field.enum.typeName}`;
  return ScalarType[field.scalar as ScalarType].toLowerCase();
}

function label(field: DescField | DescExtension): string {
  if (field.fieldKind === 'map') return '';
  if (field.proto.label === 3) return 'repeated ';
  if (field.kind === 'field' && field.oneof) return '';
  return field.proto.label === 2 ? 'required ' : 'optional ';
}

/** The one custom option that the file sets on its own fields: the CEL expressions of the predefined rules. */
function putRule(depth: number, rule: PredefinedRules['cel'][number]): void {
  const parts = [`id: ${literal(rule.id)}`];
  if (rule.message) parts.push(`message: ${literal(rule.message)}`);
  // One `cel` for each rule, not a list of them: protobufjs, and so proto-loader, reads no list of messages.
  put(depth, 'cel: {');
  for (const part of parts) put(depth + 1, part);
  const source = rule.expression.split('\n');
  put(depth + 1, 'expression:');
  source.forEach((line, i) => {
    put(depth + 2, literal(i < source.length - 1 ? `${line}\n` : line));
  });
  put(depth, '}');
}

function putField(depth: number, field: DescField | DescExtension): void {
  const head = `${label(field)}${typeName(field)} ${field.proto.name} = ${field.number}`;
  const plain: string[] = [];
  const options = field.proto.options;
  if (field.proto.defaultValue)
    plain.push(
      `default = ${field.proto.type === FieldDescriptorProto_Type.STRING ? literal(field.proto.defaultValue) : field.proto.defaultValue}`,
    );
  if (options?.deprecated) plain.push('deprecated = true');
  const rules = options && hasExtension(options, predefined) ? getExtension(options, predefined).cel : [];
  if (rules.length === 0) {
    put(depth, plain.length > 0 ? `${head} [${plain.join(', ')}];` : `${head};`);
    return;
  }
  put(depth, `${head} [`);
  for (const option of plain) put(depth + 1, `${option},`);
  put(depth + 1, '(buf.validate.predefined) = {');
  for (const rule of rules) putRule(depth + 2, rule);
  put(depth + 1, '}');
  put(depth, '];');
}

function putRanges(
  depth: number,
  keyword: string,
  ranges: readonly { start: number; end: number }[],
  maximum: number,
  inclusive: boolean,
): void {
  for (const { start, end } of ranges) {
    const last = inclusive ? end : end - 1;
    put(depth, `${keyword} ${start === last ? start : `${start} to ${last >= maximum ? 'max' : last}`};`);
  }
}

function putEnum(depth: number, desc: DescEnum): void {
  put(depth, `enum ${desc.name} {`);
  for (const value of desc.values) {
    const deprecated = value.proto.options?.deprecated ? ' [deprecated = true]' : '';
    put(depth + 1, `${value.name} = ${value.number}${deprecated};`);
  }
  putRanges(depth + 1, 'reserved', desc.proto.reservedRange, 0x7fffffff, true);
  for (const name of desc.proto.reservedName) put(depth + 1, `reserved ${literal(name)};`);
  put(depth, '}');
}

function putExtension(depth: number, desc: DescExtension): void {
  put(depth, `extend .${desc.extendee.typeName} {`);
  putField(depth + 1, desc);
  put(depth, '}');
}

function putMessage(depth: number, desc: DescMessage): void {
  put(depth, `message ${desc.name} {`);
  if (desc.proto.options?.deprecated) put(depth + 1, 'option deprecated = true;');
  for (const inner of desc.nestedEnums) putEnum(depth + 1, inner);
  for (const inner of desc.nestedMessages) if (!inner.proto.options?.mapEntry) putMessage(depth + 1, inner);
  for (const inner of desc.nestedExtensions) putExtension(depth + 1, inner);
  for (const member of desc.members) {
    if (member.kind === 'field') {
      putField(depth + 1, member);
      continue;
    }
    put(depth + 1, `oneof ${member.name} {`);
    for (const field of member.fields) putField(depth + 2, field);
    put(depth + 1, '}');
  }
  putRanges(depth + 1, 'extensions', desc.proto.extensionRange, 536870911, false);
  putRanges(depth + 1, 'reserved', desc.proto.reservedRange, 536870911, false);
  for (const name of desc.proto.reservedName) put(depth + 1, `reserved ${literal(name)};`);
  put(depth, '}');
}

put(0, '// Printed from the descriptor inside @bufbuild/protovalidate (Apache-2.0, Buf Technologies, Inc.)');
put(0, '// by tools/print-validate-proto.ts. Do not edit; the documented original is');
put(0, '// https://github.com/bufbuild/protovalidate/blob/main/proto/protovalidate/buf/validate/validate.proto');
put(0, '');
put(0, `syntax = ${literal(file.proto.syntax || 'proto2')};`);
put(0, '');
put(0, `package ${file.proto.package};`);
put(0, '');
for (const dependency of file.proto.dependency) put(0, `import ${literal(dependency)};`);
put(0, '');
const { goPackage, javaMultipleFiles, javaOuterClassname, javaPackage } = file.proto.options!;
put(0, `option go_package = ${literal(goPackage)};`);
put(0, `option java_multiple_files = ${javaMultipleFiles};`);
put(0, `option java_outer_classname = ${literal(javaOuterClassname)};`);
put(0, `option java_package = ${literal(javaPackage)};`);
for (const desc of file.extensions) putExtension(0, desc);
for (const desc of file.messages) putMessage(0, desc);
for (const desc of file.enums) putEnum(0, desc);

process.stdout.write(`${lines.join('\n')}\n`);
