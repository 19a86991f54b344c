import { spawn } from 'node:child_process';
import { text } from 'node:stream/consumers';

export interface Answer {
  readonly status: number;
  readonly type: string;
  // biome-ignore lint/suspicious/noExplicitAny: what a person sees in a terminal has no type
  readonly body: any;
}

/** Runs the real curl with these arguments; a body goes in by its standard input. */
export async function curl(args: readonly string[], body?: string | Uint8Array): Promise<Answer> {
  const data = body === undefined ? [] : ['--data-binary', '@-'];
  const all = ['-sS', '--max-time', '20', '-w', '\n%{http_code} %{content_type}', ...data, ...args];
  const child = spawn('curl', all, { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {}); // the server may answer before it has read everything
  child.stdin.end(body);
  const [out, err, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise((resolve) => child.once('close', resolve)),
  ]);
  if (code !== 0) throw new Error(`curl ended with ${code}: ${err}`);
  const [, content = '', status, type = ''] = /^([\s\S]*)\n(\d{3}) (.*)$/.exec(out)!;
  return { status: Number(status), type, body: type.startsWith('application/json') ? JSON.parse(content) : content };
}

/** Posts JSON to a method of `baton.v1`; a string is sent as it is. */
export function post(url: string, method: string, request: unknown): Promise<Answer> {
  const body = typeof request === 'string' || request instanceof Uint8Array ? request : JSON.stringify(request);
  return curl(['-H', 'Content-Type: application/json', `${url}/baton.v1.${method}`], body);
}

/** The value of an error's detail of this type, e.g. ErrorInfo, as Connect shows it to people. */
// biome-ignore lint/suspicious/noExplicitAny: as above
export function detail(answer: Answer, type: string): any {
  const found = answer.body.details?.find((each: { type: string }) => each.type === `google.rpc.${type}`);
  return found?.debug;
}
