/** A list as its server gives it: page by page. */
export interface Page<Item> {
  readonly items: readonly Item[];
  /** Empty at the end. */
  readonly nextPageToken: string;
}

/** Options of every list. */
export interface PageOptions {
  /** Items per request; 1 to 1000, the server's default is 50. */
  readonly pageSize?: number;
  /** Items in all; default no limit. */
  readonly limit?: number;
}

/** A list: iterate over its items (pages are fetched as they are needed), or take `all()` of them. */
export interface List<Item> extends AsyncIterable<Item> {
  all(): Promise<Item[]>;
}

export function listOf<Item>(
  options: PageOptions | undefined,
  fetchPage: (pageSize: number, pageToken: string) => Promise<Page<Item>>,
): List<Item> {
  const limit = options?.limit ?? Number.POSITIVE_INFINITY;
  async function* iterate(): AsyncGenerator<Item, void, undefined> {
    let left = limit;
    let pageToken = '';
    while (left > 0) {
      // 0 leaves the size to the server; a known limit asks for no more than is wanted.
      const wanted = options?.pageSize ?? (Number.isFinite(left) ? Math.min(left, 1_000) : 0);
      const page = await fetchPage(wanted, pageToken);
      for (const item of page.items) {
        if (left-- <= 0) return;
        yield item;
      }
      pageToken = page.nextPageToken;
      if (pageToken === '') return;
    }
  }
  return {
    [Symbol.asyncIterator]: iterate,
    all: async () => {
      const items: Item[] = [];
      for await (const item of iterate()) items.push(item);
      return items;
    },
  };
}
