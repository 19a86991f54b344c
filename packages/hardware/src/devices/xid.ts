/** What an XID, an error number of NVIDIA's driver, says of where the fault lies. */
export type XidKind = 'hardware' | 'application' | 'unknown';

export interface Xid {
  readonly xid: number;
  readonly kind: XidKind;
  readonly meaning: string;
}

/**
 * From NVIDIA's "XID Errors" catalogue. Those that a program causes by itself (a wild pointer in a kernel, a launch that ran too long, a
 * process that was killed) tell nothing of the device: the next task may have it.
 */
const application: Readonly<Record<number, string>> = {
  8: 'GPU stopped processing: a kernel ran too long',
  13: 'graphics engine exception: out of range or illegal instruction of a program',
  31: 'memory page fault: illegal address access of a program',
  43: 'GPU stopped processing: fault of a program',
  45: 'preemptive cleanup: a program was ended',
  68: 'video processor exception of a program',
  69: 'graphics engine class error of a program',
  109: 'context switch time-out of a program',
};

const hardware: Readonly<Record<number, string>> = {
  48: 'double-bit ECC error',
  61: 'microcontroller breakpoint',
  62: 'microcontroller halt',
  63: 'ECC page retirement or row remapping',
  64: 'ECC page retirement or row remapping failed',
  66: 'illegal access by the driver',
  73: 'video encoder did not end its work',
  74: 'NVLink error',
  79: 'GPU has fallen off the bus',
  81: 'VGA subsystem error',
  92: 'high rate of single-bit ECC errors',
  93: 'wrong microcode version',
  94: 'contained ECC error',
  95: 'uncontained ECC error',
  110: 'security fault',
  119: 'system processor of the GPU did not answer',
  120: 'system processor of the GPU failed',
  136: 'link training failed',
  140: 'unrecovered ECC error',
  143: 'initialization failed',
  144: 'NVLink: SAW error',
  145: 'NVLink: RLW error',
  146: 'NVLink: TLW error',
  147: 'NVLink: TREX error',
  148: 'NVLink: NVLPW_CTRL error',
  149: 'NVLink: NETIR error',
  150: 'NVLink: MSE error',
  151: 'key rotation error',
  154: 'the device asks for a reset or more',
  155: 'NVLink: software error',
  156: 'resource retirement',
  157: 'resource retirement failed',
  158: 'fatal time-out of the GPU',
};

/** An unknown number is neither: it is shown, and quarantines nothing. */
export function describeXid(xid: number): Xid {
  const ofHardware = hardware[xid];
  if (ofHardware !== undefined) {
    return { xid, kind: 'hardware', meaning: ofHardware };
  }
  const ofApplication = application[xid];
  return ofApplication === undefined
    ? { xid, kind: 'unknown', meaning: 'not in the catalogue' }
    : { xid, kind: 'application', meaning: ofApplication };
}
