import { reflectionV1, reflectionV1alpha } from '@baton/contract/grpc';
import { createFileRegistry, type DescFile, type FileRegistry, fromBinary } from '@bufbuild/protobuf';
import {
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  file_google_protobuf_any,
  file_google_protobuf_descriptor,
  file_google_protobuf_duration,
  file_google_protobuf_empty,
  file_google_protobuf_field_mask,
  file_google_protobuf_struct,
  file_google_protobuf_timestamp,
  file_google_protobuf_wrappers,
} from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';

/** Some servers leave these out, since every client has them. */
const wellKnown = new Map<string, DescFile>(
  [
    file_google_protobuf_any,
    file_google_protobuf_descriptor,
    file_google_protobuf_duration,
    file_google_protobuf_empty,
    file_google_protobuf_field_mask,
    file_google_protobuf_struct,
    file_google_protobuf_timestamp,
    file_google_protobuf_wrappers,
  ].map((file) => [file.proto.name, file]),
);

const notFound = 5;

/** The server has reflection, and does not know what was asked for. */
export class UnknownSymbolError extends Error {
  override readonly name = 'UnknownSymbolError';
}

/**
 * The files that declare a service, read from the server that serves it: by reflection v1, or v1alpha where v1 is not
 * there. Throws `UnknownSymbolError`, or `ConnectError` (UNIMPLEMENTED where the server has no reflection).
 */
export async function readService(transport: Transport, service: string, timeoutMs: number): Promise<FileRegistry> {
  const { v1, v1alpha } = { v1: reflectionV1.ServerReflection, v1alpha: reflectionV1alpha.ServerReflection };
  try {
    return await read((requests) => createClient(v1, transport).serverReflectionInfo(requests, { timeoutMs }), service);
  } catch (error) {
    if (!(error instanceof ConnectError && error.code === Code.Unimplemented)) {
      throw error;
    }
  }
  return read((requests) => createClient(v1alpha, transport).serverReflectionInfo(requests, { timeoutMs }), service);
}

// The messages of both versions have the same fields.
type Request = {
  messageRequest: { case: 'fileContainingSymbol'; value: string } | { case: 'fileByFilename'; value: string };
};
type Response = Pick<
  reflectionV1.ServerReflectionResponse | reflectionV1alpha.ServerReflectionResponse,
  'messageResponse'
>;

async function read(
  open: (requests: AsyncIterable<Request>) => AsyncIterable<Response>,
  service: string,
): Promise<FileRegistry> {
  const files = new Map<string, FileDescriptorProto>();
  const asked = new Set<string>();
  const queue: Request[] = [{ messageRequest: { case: 'fileContainingSymbol', value: service } }];
  let wake = () => {};
  let over = false;
  async function* requests(): AsyncGenerator<Request> {
    while (!over) {
      const next = queue.shift();
      if (next === undefined) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      } else {
        yield next;
      }
    }
  }
  let root: string | undefined;
  let open_ = 1;
  try {
    for await (const { messageResponse } of open(requests())) {
      open_--;
      if (messageResponse.case === 'errorResponse') {
        const { errorCode, errorMessage } = messageResponse.value;
        if (errorCode === notFound) {
          throw new UnknownSymbolError(errorMessage);
        }
        throw new ConnectError(errorMessage, errorCode in Code ? errorCode : Code.Unknown);
      }
      if (messageResponse.case === 'fileDescriptorResponse') {
        for (const bytes of messageResponse.value.fileDescriptorProto) {
          const file = fromBinary(FileDescriptorProtoSchema, bytes);
          files.set(file.name, file);
        }
      }
      root ??= [...files.values()].find((file) => declares(file, service))?.name;
      for (const file of files.values()) {
        for (const name of file.dependency) {
          if (!files.has(name) && !wellKnown.has(name) && !asked.has(name)) {
            asked.add(name);
            queue.push({ messageRequest: { case: 'fileByFilename', value: name } });
            open_++;
          }
        }
      }
      if (open_ === 0) {
        break;
      }
      wake();
    }
  } finally {
    over = true;
    wake();
  }
  if (root === undefined) {
    throw new UnknownSymbolError(`the server's reflection names no file that declares ${service}`);
  }
  return createFileRegistry(files.get(root)!, (name) => files.get(name) ?? wellKnown.get(name));
}

function declares(file: FileDescriptorProto, service: string): boolean {
  return file.service.some(({ name }) => (file.package === '' ? name : `${file.package}.${name}`) === service);
}
