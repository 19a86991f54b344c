import { request } from 'node:http';
import type { Duplex } from 'node:stream';

/**
 * The streams of a container, as one connection: what is written goes to its standard input (its end closes that), what is read are its
 * outputs in Docker's frames. Made here and not by dockerode, which sends its options as a body, and that podman takes for the
 * beginning of the standard input.
 */
export function attach(socketPath: string, containerId: string, options: { stdin: boolean }): Promise<Duplex> {
  const query = `stream=1&stdout=1&stderr=1${options.stdin ? '&stdin=1' : ''}`;
  return new Promise((resolve, reject) => {
    const asked = request({
      socketPath,
      method: 'POST',
      path: `/containers/${containerId}/attach?${query}`,
      headers: { connection: 'Upgrade', upgrade: 'tcp', 'content-length': 0 },
    });
    asked.on('upgrade', (_, socket, head) => {
      if (head.byteLength > 0) socket.unshift(head);
      resolve(socket);
    });
    asked.on('response', (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8').trim();
        const { statusCode = 0 } = answer;
        reject(Object.assign(new Error(`(HTTP code ${statusCode}) not attached: ${text}`), { statusCode }));
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}
