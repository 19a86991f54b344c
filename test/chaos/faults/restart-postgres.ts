import type { FaultKind } from './fault.ts';

/** In immediate mode: as a crash of the server, with recovery when it comes back. */
export const restartPostgres: FaultKind = {
  name: 'restart_postgres',
  cards: 2,
  async fire({ cluster }, random) {
    const downMs = random.chance(0.7) ? random.whole(0, 800) : random.whole(1_000, 4_500);
    await cluster.restartPostgres(downMs);
    return `down for ${downMs} ms and its recovery`;
  },
};
