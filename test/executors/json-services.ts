import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { serve } from '@baton/server';
import { create, createFileRegistry, fromJson, type JsonObject, toJson } from '@bufbuild/protobuf';
import {
  FileDescriptorProtoSchema,
  file_google_protobuf_struct,
  type Struct,
  StructSchema,
} from '@bufbuild/protobuf/wkt';

export type JsonFunction = (input: never) => unknown;

export interface JsonService extends AsyncDisposable {
  /** `host:port` of a gRPC service, or the URL of a function. */
  readonly address: string;
}

/** `test.Json/Run`: a unary method of a service that knows nothing of Baton, from an object to an object. Found by reflection. */
export async function grpcService(run: JsonFunction): Promise<JsonService> {
  const struct = '.google.protobuf.Struct';
  const file = create(FileDescriptorProtoSchema, {
    name: 'test/json.proto',
    package: 'test',
    syntax: 'proto3',
    dependency: ['google/protobuf/struct.proto'],
    service: [{ name: 'Json', method: [{ name: 'Run', inputType: struct, outputType: struct }] }],
  });
  const service = createFileRegistry(file, () => file_google_protobuf_struct).getService('test.Json')!;
  const server = await serve({
    port: 0,
    services: [service],
    routes: (router) =>
      router.service(service, {
        run: (request: Struct) => fromJson(StructSchema, run(toJson(StructSchema, request) as never) as JsonObject),
      } as never),
  });
  return {
    address: `127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.close({ graceMs: 0 }),
  };
}

/** A function behind a URL: JSON in, JSON out. */
export async function httpService(run: JsonFunction): Promise<JsonService> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const output = run(JSON.parse(Buffer.concat(chunks).toString()) as never);
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(output));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
