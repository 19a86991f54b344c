const encoder = new TextEncoder();
const decoder = new TextDecoder();

/**
 * A text that the master takes whatever it was: lone surrogates and NUL become U+FFFD (Postgres keeps neither), and
 * what is longer than `maxBytes` of UTF-8 is cut, which the text then says.
 */
export function cleanText(text: string, maxBytes: number): string {
  const clean = text.toWellFormed().replaceAll('\u0000', '\ufffd');
  // A UTF-16 unit takes at most 3 bytes: most texts are short and need no counting.
  if (clean.length * 3 <= maxBytes) {
    return clean;
  }
  const bytes = encoder.encode(clean);
  if (bytes.length <= maxBytes) {
    return clean;
  }
  const mark = `… (cut from ${bytes.length} bytes)`;
  let end = maxBytes - encoder.encode(mark).length;
  // Back to the start of a character.
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) {
    end--;
  }
  return decoder.decode(bytes.subarray(0, Math.max(0, end))) + mark;
}
