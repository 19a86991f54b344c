import type { Readings } from '../readings.ts';

/** 2026-01-05, a Monday. Fixed: made-up data needs no clock, and the same seed must give the same bytes. */
const FIRST_HOUR_MS = Date.UTC(2026, 0, 5);
const HOUR_MS = 3_600_000;

/** Of all readings, how many are made anomalous and how many are broken (at least one of each from 20 readings on). */
const ANOMALY_SHARE = 0.01;
const BAD_SHARE = 0.005;
/** From how many households on one has a faulty meter, which shows half of the anomalies. */
const FAULTY_METER_FROM = 3;

export interface HouseholdReadings extends Readings {
  /** How many anomalous and how many broken rows were made on purpose, so that a test can demand exactly these. */
  readonly planted: { readonly anomalies: number; readonly badRows: number };
}

interface Reading {
  timestamp: string;
  household: number;
  watts: number;
  volts: number;
  /** Real over apparent power: what the analyzer will find again as efficiency. */
  powerFactor: number;
}

/** Mulberry32: 32 bits of state, the same numbers on every machine. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How much of its peak a home uses at an hour of the day: low at night, a bump at breakfast, a larger one at dinner. */
function dailyLoad(hour: number): number {
  const bump = (centre: number, width: number) => Math.exp(-(((hour - centre) / width) ** 2));
  return 0.18 + 0.45 * bump(7.5, 1.8) + 0.8 * bump(19, 2.6);
}

/** The ways in which a broken row is broken; each is one that real meters' exports show. */
const BREAK: ReadonlyArray<(row: string[]) => string[]> = [
  (row) => row.with(4, ''),
  (row) => row.with(3, 'n/a'),
  (row) => row.with(3, '0.0'),
  (row) => row.with(2, `-${row[2]}`),
  (row) => row.with(0, `${row[0]?.slice(0, 10)} 25:00`),
  (row) => row.with(1, ''),
  (row) => row.slice(0, 3),
];

/**
 * Makes hourly readings of homes, in order of time, then household. About 1 % are anomalies on purpose: current flows, but
 * hardly any power is used (efficiency 0.01 to 0.09). About 0.5 % are broken on purpose.
 *
 * @param households number of homes, from 1; `hours` readings each
 */
export function makeHouseholds(spec: { households: number; hours: number; seed: number }): HouseholdReadings {
  const { households, hours, seed } = spec;
  const random = randomFrom(seed);
  const homes = Array.from({ length: households }, () => ({
    peakWatts: 900 + 2600 * random(),
    powerFactor: 0.84 + 0.11 * random(),
  }));

  const readings: Reading[] = [];
  for (let hour = 0; hour < hours; hour++) {
    const timestamp = new Date(FIRST_HOUR_MS + hour * HOUR_MS).toISOString().replace('.000Z', 'Z');
    for (const [household, home] of homes.entries()) {
      readings.push({
        timestamp,
        household,
        watts: home.peakWatts * dailyLoad(hour % 24) * (0.75 + 0.5 * random()),
        volts: 230 + 8 * (random() - 0.5),
        powerFactor: home.powerFactor + 0.08 * (random() - 0.5),
      });
    }
  }

  const planted = {
    anomalies: readings.length < 20 ? 0 : Math.max(1, Math.round(readings.length * ANOMALY_SHARE)),
    badRows: readings.length < 20 ? 0 : Math.max(1, Math.round(readings.length * BAD_SHARE)),
  };
  const order = shuffled(readings.length, random);
  const faultyMeter = Math.floor(random() * households);
  const ofFaultyMeter =
    households < FAULTY_METER_FROM ? [] : order.filter((at) => readings[at]?.household === faultyMeter);
  const anomalous = new Set(ofFaultyMeter.slice(0, Math.floor(planted.anomalies / 2)));
  for (const at of order) {
    if (anomalous.size === planted.anomalies) break;
    anomalous.add(at);
  }
  for (const at of anomalous) readings[at]!.powerFactor = 0.01 + 0.08 * random();
  const broken = new Map(
    order
      .filter((at) => !anomalous.has(at))
      .slice(0, planted.badRows)
      .map((at, i) => [at, BREAK[i % BREAK.length]!]),
  );

  const width = String(households).length;
  const rows = readings.map((reading, at) => {
    const row = formatReading(reading, width);
    return broken.get(at)?.(row) ?? row;
  });
  return {
    dataset: 'household-readings',
    origin: {
      description:
        `Synthetic: ${households} household${households === 1 ? '' : 's'}, ${hours} hour${hours === 1 ? '' : 's'}, ` +
        `seed ${seed}; ${planted.anomalies} anomalies and ${planted.badRows} broken rows were planted on purpose`,
      source: 'energy-generator (made-up data)',
      licence: null,
      place: null,
      sha256: null,
      synthetic: true,
    },
    rows,
    planted,
  };
}

function formatReading({ timestamp, household, watts, volts, powerFactor }: Reading, width: number): string[] {
  const amperes = watts / (volts * powerFactor);
  const id = `H${String(household + 1).padStart(Math.max(2, width), '0')}`;
  return [timestamp, id, watts.toFixed(1), volts.toFixed(1), amperes.toFixed(3)];
}

/** The numbers below `length` in random order (Fisher–Yates). */
function shuffled(length: number, random: () => number): number[] {
  const order = Array.from({ length }, (_, i) => i);
  for (let i = length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
