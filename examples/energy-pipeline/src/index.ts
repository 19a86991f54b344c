/** Starts the three services of the energy pipeline; what they compute is in the folders named after them. */
export { type EnergyServices, type LaunchOptions, ServiceStartError, startEnergyServices } from './launch.ts';
export type { ServiceId } from './service/kinds.ts';
