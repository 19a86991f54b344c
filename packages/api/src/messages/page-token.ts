import { isStorableText, Refusal } from '@baton/domain';

/** Opaque to clients; ours is the key of the last row, with the list that it belongs to. */
export function encodePageToken(list: string, key: string): string {
  const bytes = new TextEncoder().encode(JSON.stringify([list, key]));
  return btoa(String.fromCharCode(...bytes)).replaceAll('=', '');
}

/**
 * @param list the filters of the request: a token of another list is refused
 * @param isKey whether a text can be the key of a row of this list; tokens can be made by anybody
 */
export function decodePageToken(
  list: string,
  token: string,
  isKey: (key: string) => boolean = isStorableText,
): string | null {
  if (token === '') return null;
  try {
    const bytes = Uint8Array.from(atob(token), (c) => c.charCodeAt(0));
    const [from, key] = JSON.parse(new TextDecoder().decode(bytes)) as [string, string];
    if (from === list && typeof key === 'string' && isKey(key)) return key;
  } catch {
    // falls through to the refusal
  }
  throw new Refusal(
    'invalid_argument',
    'INVALID_PAGE_TOKEN',
    'this page token is not one of this list with these filters',
    {
      violations: [{ field: 'page_token', description: 'not a token of this list with these filters' }],
    },
  );
}
