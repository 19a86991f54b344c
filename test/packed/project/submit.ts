// The same in Node and in Deno.
import process from 'node:process';
import { createBaton } from '@baton/client';
import { shout } from './own.ts';

const [url, text] = process.argv.slice(2);
const baton = createBaton({ url });
const handle = await baton.enqueue(shout, { text: text! });
const output: string = await handle.result();
const { state, attempts } = await handle.status();
const lines: string[] = [];
for await (const line of handle.logs({ follow: true })) lines.push(line.text);
const runtime = 'Deno' in globalThis ? 'Deno' : 'Node';
console.log(JSON.stringify({ runtime, id: handle.id, output, state, worker: attempts[0]?.worker, lines }));
