import { create, createFileRegistry, type Message } from '@bufbuild/protobuf';
import type { GenMessage, GenService } from '@bufbuild/protobuf/codegenv2';
import {
  FileDescriptorSetSchema,
  FieldDescriptorProto_Label as Label,
  MethodOptions_IdempotencyLevel,
  FieldDescriptorProto_Type as Type,
} from '@bufbuild/protobuf/wkt';

/** A service with a method of every kind, for tests: no service of ours has them all. */
export type ProbeService = GenService<{
  echo: { methodKind: 'unary'; input: GenMessage<Probe>; output: GenMessage<Probe> };
  hold: { methodKind: 'unary'; input: GenMessage<Probe>; output: GenMessage<Probe> };
  count: { methodKind: 'server_streaming'; input: GenMessage<Probe>; output: GenMessage<Probe> };
  chat: { methodKind: 'bidi_streaming'; input: GenMessage<Probe>; output: GenMessage<Probe> };
}>;
export type Probe = Message<'probe.v1.Probe'> & { text: string; body: Uint8Array };

const method = (name: string) => ({ name, inputType: '.probe.v1.Probe', outputType: '.probe.v1.Probe' });

const files = create(FileDescriptorSetSchema, {
  file: [
    {
      name: 'probe/v1/base.proto',
      package: 'probe.v1',
      syntax: 'proto2',
      messageType: [{ name: 'Open', extensionRange: [{ start: 100, end: 200 }] }],
    },
    {
      name: 'probe/v1/probe.proto',
      package: 'probe.v1',
      syntax: 'proto2',
      dependency: ['probe/v1/base.proto'],
      messageType: [
        {
          name: 'Probe',
          field: [
            { name: 'text', jsonName: 'text', number: 1, type: Type.STRING, label: Label.OPTIONAL },
            { name: 'body', jsonName: 'body', number: 2, type: Type.BYTES, label: Label.OPTIONAL },
          ],
          enumType: [{ name: 'Mood', value: [{ name: 'MOOD_CALM', number: 0 }] }],
        },
      ],
      extension: [
        { name: 'later', number: 120, type: Type.STRING, label: Label.OPTIONAL, extendee: '.probe.v1.Open' },
        { name: 'early', number: 110, type: Type.STRING, label: Label.OPTIONAL, extendee: '.probe.v1.Open' },
      ],
      service: [
        {
          name: 'ProbeService',
          method: [
            { ...method('Echo'), options: { idempotencyLevel: MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS } },
            method('Hold'),
            { ...method('Count'), serverStreaming: true },
            { ...method('Chat'), clientStreaming: true, serverStreaming: true },
          ],
        },
      ],
    },
  ],
});

export const ProbeService = createFileRegistry(files).getService('probe.v1.ProbeService') as unknown as ProbeService;
