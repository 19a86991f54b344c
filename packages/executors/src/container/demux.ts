import type { Duplex, Writable } from 'node:stream';

/**
 * Takes Docker's frames apart (stream number, three zeros, length in four bytes, bytes) and hands them on as fast as they are taken: what
 * is not read here holds the container up, and not the worker's memory.
 */
export async function demux(from: Duplex, stdout: Writable, stderr: Writable): Promise<void> {
  let rest = Buffer.alloc(0);
  let left = 0;
  let target = stdout;
  try {
    for await (const chunk of from as AsyncIterable<Buffer>) {
      let data = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk]);
      while (data.byteLength > 0) {
        if (left === 0) {
          if (data.byteLength < 8) break;
          target = data[0] === 2 ? stderr : stdout;
          left = data.readUInt32BE(4);
          data = data.subarray(8);
          continue;
        }
        const part = data.subarray(0, left);
        data = data.subarray(part.byteLength);
        left -= part.byteLength;
        if (!target.write(part)) await new Promise((resolve) => target.once('drain', resolve));
      }
      rest = Buffer.from(data);
    }
  } catch {
    // Broken off: what came counts.
  }
  stdout.end();
  stderr.end();
}
