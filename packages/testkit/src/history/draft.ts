/** The same, to be written on. */
export type Draft<T> =
  T extends ReadonlyMap<infer K, infer V>
    ? Map<K, V>
    : T extends readonly (infer U)[]
      ? Draft<U>[]
      : T extends object
        ? { -readonly [K in keyof T]: Draft<T[K]> }
        : T;
