import { execFile } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { ContainerExecutor } from '@baton/contract';
import { reflectionV1, reflectionV1alpha } from '@baton/contract/grpc';
import { createFileRegistry, fromBinary, type MessageInitShape } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Code, createClient } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type RunningServer, serve } from './index.ts';
import { ProbeService } from './probe.fixture.ts';

type Asked = MessageInitShape<typeof reflectionV1.ServerReflectionRequestSchema>['messageRequest'];
let server: RunningServer;
let sessionManager: Http2SessionManager;

beforeAll(async () => {
  server = await serve({
    port: 0,
    services: [ProbeService, ContainerExecutor],
    routes(router) {
      router.service(ProbeService, { echo: (message) => message });
      router.service(ContainerExecutor, {
        execute: ({ inputFile, outputFile }) => ({ success: true, message: `${inputFile} to ${outputFile}` }),
      });
    },
  });
  sessionManager = new Http2SessionManager(server.url);
});
afterAll(async () => {
  sessionManager.abort();
  await server.close({ graceMs: 0 });
});

const all = [
  'ContainerExecutor',
  'grpc.health.v1.Health',
  'grpc.reflection.v1.ServerReflection',
  'grpc.reflection.v1alpha.ServerReflection',
  'probe.v1.ProbeService',
];

describe.each([
  ['v1', reflectionV1.ServerReflection],
  ['v1alpha', reflectionV1alpha.ServerReflection as unknown as typeof reflectionV1.ServerReflection],
])('reflection %s', (_, service) => {
  /** Asks everything on one stream and collects the answers. */
  const ask = async (...questions: Asked[]) => {
    const client = createClient(service, createGrpcTransport({ baseUrl: server.url, sessionManager }));
    const answers: reflectionV1.ServerReflectionResponse[] = [];
    async function* requests() {
      for (const messageRequest of questions) {
        yield { host: 'here', messageRequest };
      }
    }
    for await (const answer of client.serverReflectionInfo(requests())) {
      answers.push(answer);
    }
    expect(answers).toHaveLength(questions.length);
    return answers;
  };
  const filesOf = ({ messageResponse }: reflectionV1.ServerReflectionResponse) => {
    if (messageResponse.case !== 'fileDescriptorResponse') {
      throw new TypeError(`expected files, got ${JSON.stringify(messageResponse)}`);
    }
    return messageResponse.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes));
  };

  it('lists its services, its own among them, and echoes the question', async () => {
    const [answer] = await ask({ case: 'listServices', value: '*' });
    expect(answer).toMatchObject({
      validHost: 'here',
      originalRequest: { host: 'here', messageRequest: { case: 'listServices', value: '*' } },
      messageResponse: { case: 'listServicesResponse', value: { service: all.map((name) => ({ name })) } },
    });
  });

  it('gives a file with all that it imports, enough to build its types from', async () => {
    const [byName] = await ask({ case: 'fileByFilename', value: 'probe/v1/probe.proto' });
    const file = filesOf(byName!);
    expect(file.map(({ name }) => name)).toEqual(['probe/v1/probe.proto', 'probe/v1/base.proto']);
    const registry = createFileRegistry({ $typeName: FileDescriptorSetSchema.typeName, file: file.reverse() });
    expect(registry.getService('probe.v1.ProbeService')?.methods.map(({ name }) => name)).toEqual([
      'Echo',
      'Hold',
      'Count',
      'Chat',
    ]);
  });

  it.each([
    ['a service', 'probe.v1.ProbeService', 'probe/v1/probe.proto'],
    ['a method', 'probe.v1.ProbeService.Echo', 'probe/v1/probe.proto'],
    ['a message', 'probe.v1.Probe', 'probe/v1/probe.proto'],
    ['a field', 'probe.v1.Probe.text', 'probe/v1/probe.proto'],
    ['a nested enum', 'probe.v1.Probe.Mood', 'probe/v1/probe.proto'],
    ['an enum value, which stands beside its enum', 'probe.v1.Probe.MOOD_CALM', 'probe/v1/probe.proto'],
    ['an extension', 'probe.v1.later', 'probe/v1/probe.proto'],
    ['an imported message', 'probe.v1.Open', 'probe/v1/base.proto'],
    ['a service without package', 'ContainerExecutor', 'container_executor.proto'],
    ['a oneof', 'grpc.reflection.v1.ServerReflectionRequest.message_request', 'grpc/reflection/v1/reflection.proto'],
  ])('finds the file of %s', async (_, symbol, name) => {
    const [answer] = await ask({ case: 'fileContainingSymbol', value: symbol });
    expect(filesOf(answer!)[0]?.name).toBe(name);
  });

  it('finds extensions', async () => {
    const extendee = 'probe.v1.Open';
    const [file, numbers, none] = await ask(
      { case: 'fileContainingExtension', value: { containingType: extendee, extensionNumber: 120 } },
      { case: 'allExtensionNumbersOfType', value: extendee },
      { case: 'allExtensionNumbersOfType', value: 'probe.v1.Probe' },
    );
    expect(filesOf(file!)[0]?.name).toBe('probe/v1/probe.proto');
    expect(numbers?.messageResponse.value).toMatchObject({ baseTypeName: extendee, extensionNumber: [110, 120] });
    expect(none?.messageResponse.value).toMatchObject({ baseTypeName: 'probe.v1.Probe', extensionNumber: [] });
  });

  it('answers what it does not have with an error, and goes on', async () => {
    const answers = await ask(
      { case: 'fileByFilename', value: 'no.proto' },
      { case: 'fileContainingSymbol', value: 'no.Such' },
      { case: 'fileContainingExtension', value: { containingType: 'probe.v1.Open', extensionNumber: 199 } },
      { case: 'allExtensionNumbersOfType', value: 'no.Such' },
      { case: undefined },
      { case: 'listServices', value: '' },
    );
    const { NotFound, InvalidArgument } = Code;
    expect(
      answers.map(({ messageResponse: { case: kind, value } }) => (kind === 'errorResponse' ? value.errorCode : kind)),
    ).toEqual([NotFound, NotFound, NotFound, NotFound, InvalidArgument, 'listServicesResponse']);
    expect(answers[1]?.messageResponse.value).toMatchObject({ errorMessage: 'symbol "no.Such" not found' });
  });
});

describe.each(['grpc-v1', 'grpc-v1alpha'])('buf curl with --reflect-protocol %s', (protocol) => {
  const buf = join(dirname(createRequire(import.meta.url).resolve('@bufbuild/buf/package.json')), 'bin/buf');
  const curl = async (...args: string[]) => {
    const common = ['--protocol', 'grpc', '--http2-prior-knowledge', '--reflect', '--reflect-protocol', protocol];
    const { stdout } = await promisify(execFile)(process.execPath, [buf, 'curl', ...common, ...args]);
    return stdout.trim();
  };

  it('lists services and methods', async () => {
    expect((await curl('--list-services', server.url)).split('\n')).toEqual(all);
    expect(await curl('--list-methods', server.url)).toContain('probe.v1.ProbeService/Chat');
  });

  it('calls a method whose types it has from here alone', async () => {
    const answer = await curl('-d', '{"input_file":"a","output_file":"b"}', `${server.url}/ContainerExecutor/Execute`);
    expect(JSON.parse(answer)).toEqual({ success: true, message: 'a to b' });
    const echoed = await curl('-d', '{"text":"over and back"}', `${server.url}/probe.v1.ProbeService/Echo`);
    expect(JSON.parse(echoed)).toEqual({ text: 'over and back' });
    expect(JSON.parse(await curl('-d', '{}', `${server.url}/grpc.health.v1.Health/Check`))).toEqual({
      status: 'SERVING',
    });
  });
});
