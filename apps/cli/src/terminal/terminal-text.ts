import { cleanLine } from './clean.ts';

/**
 * Bytes of any kind as text that cannot rewrite a terminal, part by part: characters and lines may be cut between two parts. Line
 * feeds are kept, everything else that moves the cursor is gone.
 */
export function terminalText(): (part: Uint8Array) => string {
  const decoder = new TextDecoder();
  return (part) => decoder.decode(part, { stream: true }).split('\n').map(cleanLine).join('\n');
}
