import * as contract from '@baton/contract';
import {
  type DescFile,
  type DescMessage,
  equals,
  fromBinary,
  fromJson,
  type JsonValue,
  type Message,
  toBinary,
  toJson,
} from '@bufbuild/protobuf';
import { type Finding, ok, problem, wordsOf } from './finding.ts';
import { sampleMessage, variantsOf } from './sample-message.ts';

/** Writes a message and reads it again. */
export interface Codec {
  readonly name: string;
  roundTrip(desc: DescMessage, message: Message): Message;
}

export const CODECS: readonly Codec[] = [
  { name: 'binary', roundTrip: (desc, message) => fromBinary(desc, toBinary(desc, message)) },
  {
    name: 'JSON',
    roundTrip: (desc, message) => {
      return fromJson(desc, JSON.parse(JSON.stringify(toJson(desc, message))) as JsonValue);
    },
  },
];

/** Every message of the contract, filled, written and read again: it must be what it was. */
export function checkMessages(codecs: readonly Codec[] = CODECS): readonly Finding[] {
  const findings: Finding[] = [];
  const messages = Object.values(contract)
    .filter(isFile)
    .flatMap(({ messages: top }) => top.flatMap(withNested));
  for (const desc of messages) {
    for (let variant = 0; variant < variantsOf(desc); variant++) {
      const message = sampleMessage(desc, variant);
      for (const codec of codecs) {
        const fault = faultOf(codec, desc, message);
        if (fault === undefined) continue;
        findings.push(
          problem(
            'messages',
            `${desc.typeName} does not survive ${codec.name}: ${fault}`,
            'npm install (the code and its run time must be of one version); in the repository also npm run generate',
          ),
        );
      }
    }
  }
  if (findings.length > 0) return findings;
  const names = codecs.map(({ name }) => name).join(' and ');
  return [ok('messages', `${messages.length} messages survive ${names}`)];
}

function faultOf(codec: Codec, desc: DescMessage, message: Message): string | undefined {
  try {
    return equals(desc, message, codec.roundTrip(desc, message)) ? undefined : 'it is another one afterwards';
  } catch (error) {
    return wordsOf(error);
  }
}

function isFile(value: unknown): value is DescFile {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'file';
}

/** The entries of maps are no messages of their own. */
function withNested(desc: DescMessage): DescMessage[] {
  return [desc, ...desc.nestedMessages.flatMap(withNested)];
}
