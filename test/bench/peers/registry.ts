import type { Peer } from './peer.ts';

const PEERS: Record<string, () => Promise<Peer>> = {
  graphile: async () => (await import('./graphile.ts')).graphile,
  pgboss: async () => (await import('./pgboss.ts')).pgboss,
  dbos: async () => (await import('./dbos-queue.ts')).dbos,
  bullmq: async () => (await import('./bullmq.ts')).bullmq,
};

/** A peer and a way of using it, as `--peers` names it: `graphile:tuned`. */
export interface PeerName {
  readonly name: string;
  readonly peer: string;
  readonly variant: string;
}

/** Null: there is no such peer. */
export function readPeerName(name: string): PeerName | null {
  const [peer = '', variant = 'default'] = name.split(':');
  return peer in PEERS ? { name, peer, variant } : null;
}

export const PEER_NAMES = Object.keys(PEERS);

/** @throws UnknownVariantError */
export async function loadPeer({ name, peer, variant }: PeerName): Promise<Peer> {
  const loaded = await PEERS[peer]!();
  if (!loaded.variants.includes(variant))
    throw new UnknownVariantError(`${name}: ${peer} is used as ${loaded.variants.join(', ')}`);
  return loaded;
}

export class UnknownVariantError extends Error {
  override readonly name = 'UnknownVariantError';
}
