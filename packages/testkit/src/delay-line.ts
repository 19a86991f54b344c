/** One direction of a slow connection: what goes in comes out so much later, in the order in which it went in. */
export interface DelayLine {
  /** Does it now if nothing is on its way and there is no delay, else when its time has come. */
  carry(act: () => void): void;
}

/** `delayMs` is asked each time, so that a network may become slow and well again; what is on its way stays in order. */
export function delayLine(delayMs: () => number): DelayLine {
  const underWay: { act: () => void; dueMs: number }[] = [];
  const arrive = () => {
    while (underWay.length > 0 && underWay[0]!.dueMs <= performance.now()) underWay.shift()!.act();
    if (underWay.length > 0) setTimeout(arrive, Math.max(1, underWay[0]!.dueMs - performance.now()));
  };
  return {
    carry(act) {
      const ms = delayMs();
      if (ms <= 0 && underWay.length === 0) {
        act();
        return;
      }
      underWay.push({ act, dueMs: performance.now() + ms });
      if (underWay.length === 1) setTimeout(arrive, Math.max(1, ms));
    },
  };
}
