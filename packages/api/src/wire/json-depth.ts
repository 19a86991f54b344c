/** Whether JSON text is nested deeper than this. The text is known to be JSON. */
export function isDeeperThan(text: string, depth: number): boolean {
  // Every level takes two characters.
  if (text.length < 2 * depth) return false;
  let open = 0;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case 0x22:
        // To the end of the string, over what is escaped.
        for (i++; text.charCodeAt(i) !== 0x22; i++) if (text.charCodeAt(i) === 0x5c) i++;
        break;
      case 0x5b:
      case 0x7b:
        if (++open > depth) return true;
        break;
      case 0x5d:
      case 0x7d:
        open--;
    }
  }
  return false;
}
