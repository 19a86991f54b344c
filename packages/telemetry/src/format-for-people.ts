const hidden = new Set(['level', 'time', 'pid', 'name', 'msg']);

/**
 * One JSON line of the log as a line for a terminal: `12:00:01.250 warn  worker: master unreachable attempt=3 …`.
 * Control characters in data are escaped: a task's name or an error text must not move the cursor or forge a line.
 * A stack is kept for the file; people get the error's type and message.
 */
export function formatForPeople(jsonLine: string): string {
  const line: Record<string, unknown> = JSON.parse(jsonLine);
  const fields = Object.entries(line)
    .filter(([key, value]) => !hidden.has(key) && value !== undefined)
    .map(([key, value]) => `${inert(key)}=${show(value)}`);
  const time = String(line.time).slice(11, 23);
  return `${[time, String(line.level).padEnd(5), `${inert(String(line.name))}:`, inert(String(line.msg)), ...fields].join(' ')}\n`;
}

function show(value: unknown): string {
  if (typeof value === 'string') {
    return /^[\w.:/@+-]+$/.test(value) ? value : inert(JSON.stringify(value));
  }
  if (isError(value)) {
    return inert(JSON.stringify(`${value.type}: ${value.message}`));
  }
  return inert(JSON.stringify(value) ?? String(value));
}

function isError(value: unknown): value is { type: string; message: string } {
  return typeof value === 'object' && value !== null && 'type' in value && 'message' in value && 'stack' in value;
}

function inert(text: string): string {
  return text.replaceAll(
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
