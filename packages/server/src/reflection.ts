import { reflectionV1, reflectionV1alpha } from '@baton/contract/grpc';
import type { DescFile, DescService } from '@bufbuild/protobuf';
import { Code, type ConnectRouter } from '@connectrpc/connect';
import { createDescriptorIndex, type DescriptorIndex } from './descriptors.ts';

/** The two reflection services; both are served, since tools of different ages ask for one or the other. */
export const reflectionServices: readonly DescService[] = [
  reflectionV1.ServerReflection,
  reflectionV1alpha.ServerReflection,
];

/**
 * Registers server reflection, v1 and v1alpha, over the files of the given services and all that these import.
 * What is not found is answered with an error response, and the stream goes on, as the protocol has it.
 */
export function registerReflection(router: ConnectRouter, services: readonly DescService[]): void {
  // Indexing waits for the first question: most servers are never asked.
  let index: DescriptorIndex | undefined;
  async function* answers<R extends Request>(requests: AsyncIterable<R>) {
    index ??= createDescriptorIndex(services);
    for await (const request of requests) {
      yield { validHost: request.host, originalRequest: request, messageResponse: answer(index, request) };
    }
  }
  router.service(reflectionV1.ServerReflection, { serverReflectionInfo: (requests) => answers(requests) });
  router.service(reflectionV1alpha.ServerReflection, { serverReflectionInfo: (requests) => answers(requests) });
}

// The messages of v1 and v1alpha differ in their package only, so one answer serves both.
type Request = reflectionV1.ServerReflectionRequest | reflectionV1alpha.ServerReflectionRequest;

type Answer =
  | { case: 'fileDescriptorResponse'; value: { fileDescriptorProto: Uint8Array[] } }
  | { case: 'allExtensionNumbersResponse'; value: { baseTypeName: string; extensionNumber: number[] } }
  | { case: 'listServicesResponse'; value: { service: { name: string }[] } }
  | { case: 'errorResponse'; value: { errorCode: number; errorMessage: string } };

function answer(index: DescriptorIndex, { messageRequest: asked }: Request): Answer {
  switch (asked.case) {
    case 'listServices':
      return { case: 'listServicesResponse', value: { service: index.services.map((name) => ({ name })) } };
    case 'fileByFilename':
      return fileAnswer(index, index.fileByName(asked.value), `file "${asked.value}"`);
    case 'fileContainingSymbol':
      return fileAnswer(index, index.fileBySymbol(asked.value), `symbol "${asked.value}"`);
    case 'fileContainingExtension': {
      const { containingType, extensionNumber } = asked.value;
      const file = index.fileByExtension(containingType, extensionNumber);
      return fileAnswer(index, file, `extension ${extensionNumber} of "${containingType}"`);
    }
    case 'allExtensionNumbersOfType': {
      const extensionNumber = index.extensionNumbers(asked.value);
      return extensionNumber === undefined
        ? errorAnswer(Code.NotFound, `message type "${asked.value}" not found`)
        : { case: 'allExtensionNumbersResponse', value: { baseTypeName: asked.value, extensionNumber } };
    }
    default:
      return errorAnswer(Code.InvalidArgument, 'the request asks nothing: set one field of message_request');
  }
}

function fileAnswer(index: DescriptorIndex, file: DescFile | undefined, what: string): Answer {
  return file === undefined
    ? errorAnswer(Code.NotFound, `${what} not found`)
    : { case: 'fileDescriptorResponse', value: { fileDescriptorProto: index.encode(file) } };
}

function errorAnswer(errorCode: Code, errorMessage: string): Answer {
  return { case: 'errorResponse', value: { errorCode, errorMessage } };
}
