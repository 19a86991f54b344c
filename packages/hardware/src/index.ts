export { type BookedDevice, type DeviceBook, noDevices } from './devices/device-book.ts';
export { createLoadMeter, type Load, type LoadMeter } from './load.ts';
export { type Machine, readMachine } from './machine.ts';
