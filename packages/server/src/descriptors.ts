import { type DescFile, type DescMessage, type DescService, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';

/** What reflection looks up: the files that declare some services, and everything those files import. */
export interface DescriptorIndex {
  /** Full names, sorted. */
  readonly services: readonly string[];
  fileByName(name: string): DescFile | undefined;
  /** By the full name of anything declared: message, field, oneof, enum, enum value, service, method, extension. */
  fileBySymbol(symbol: string): DescFile | undefined;
  fileByExtension(extendee: string, number: number): DescFile | undefined;
  /** Ascending field numbers of the known extensions of a message; undefined for a name that is no message. */
  extensionNumbers(extendee: string): number[] | undefined;
  /** The file and all that it imports, each once, as FileDescriptorProto bytes, the file itself first. */
  encode(file: DescFile): Uint8Array[];
}

export function createDescriptorIndex(services: readonly DescService[]): DescriptorIndex {
  const files = new Map<string, DescFile>();
  for (const service of services) {
    for (const file of closure(service.file)) {
      files.set(file.proto.name, file);
    }
  }

  const symbols = new Map<string, DescFile>();
  const messages = new Set<string>();
  const extensions = new Map<string, Map<number, DescFile>>();
  for (const file of files.values()) {
    for (const service of file.services) {
      symbols.set(service.typeName, file);
      for (const method of service.methods) {
        symbols.set(`${service.typeName}.${method.name}`, file);
      }
    }
    indexTypes(file);
  }

  function indexTypes(scope: DescFile | DescMessage): void {
    const file = scope.kind === 'file' ? scope : scope.file;
    const nestedMessages = scope.kind === 'file' ? scope.messages : scope.nestedMessages;
    const enums = scope.kind === 'file' ? scope.enums : scope.nestedEnums;
    const nestedExtensions = scope.kind === 'file' ? scope.extensions : scope.nestedExtensions;
    for (const message of nestedMessages) {
      symbols.set(message.typeName, file);
      messages.add(message.typeName);
      for (const member of [...message.fields, ...message.oneofs]) {
        symbols.set(`${message.typeName}.${member.name}`, file);
      }
      indexTypes(message);
    }
    for (const type of enums) {
      symbols.set(type.typeName, file);
      // The values of an enum are named beside it, not inside it: that is protobuf's scoping.
      const parent = type.typeName.slice(0, type.typeName.lastIndexOf('.') + 1);
      for (const value of type.values) {
        symbols.set(parent + value.name, file);
      }
    }
    for (const extension of nestedExtensions) {
      symbols.set(extension.typeName, file);
      const extendee = extension.extendee.typeName;
      const numbers = extensions.get(extendee) ?? new Map<number, DescFile>();
      extensions.set(extendee, numbers.set(extension.number, file));
    }
  }

  const encoded = new Map<DescFile, Uint8Array>();
  return {
    services: services.map((service) => service.typeName).sort(),
    fileByName: (name) => files.get(name),
    fileBySymbol: (symbol) => symbols.get(symbol),
    fileByExtension: (extendee, number) => extensions.get(extendee)?.get(number),
    extensionNumbers(extendee) {
      const known = extensions.get(extendee);
      return messages.has(extendee) || known !== undefined
        ? [...(known?.keys() ?? [])].sort((a, b) => a - b)
        : undefined;
    },
    encode: (file) =>
      closure(file).map((each) => {
        let bytes = encoded.get(each);
        if (bytes === undefined) {
          bytes = toBinary(FileDescriptorProtoSchema, each.proto);
          encoded.set(each, bytes);
        }
        return bytes;
      }),
  };
}

/** A file and its transitive imports, each once, the file itself first. */
function closure(file: DescFile): DescFile[] {
  const seen = new Map<string, DescFile>();
  const visit = (each: DescFile) => {
    if (!seen.has(each.proto.name)) {
      seen.set(each.proto.name, each);
      each.dependencies.forEach(visit);
    }
  };
  visit(file);
  return [...seen.values()];
}
