// Takes real memory of a device by the driver itself (libcuda), says so, and holds it until its input ends.
//   node allocate.ts BYTES        prints one line of JSON; which device: CUDA_VISIBLE_DEVICES, as for any CUDA program
import koffi from 'koffi';

const bytes = Number(process.argv[2]);
const cuda = koffi.load(process.platform === 'win32' ? 'nvcuda.dll' : 'libcuda.so.1');
const out = (type: string) => koffi.out(koffi.pointer(type));
const init = cuda.func('cuInit', 'int', ['uint32_t']);
const count = cuda.func('cuDeviceGetCount', 'int', [out('int')]);
const get = cuda.func('cuDeviceGet', 'int', [out('int'), 'int']);
const uuidOf = cuda.func('cuDeviceGetUuid', 'int', [koffi.pointer('uint8_t'), 'int']);
const createContext = cuda.func('cuCtxCreate_v2', 'int', [
  koffi.out(koffi.pointer('void *' as string)),
  'uint32_t',
  'int',
]);
const allocate = cuda.func('cuMemAlloc_v2', 'int', [out('uint64_t'), 'size_t']);
const fill = cuda.func('cuMemsetD8_v2', 'int', ['uint64_t', 'uint8_t', 'size_t']);
const synchronize = cuda.func('cuCtxSynchronize', 'int', []);

/** `CUDA_ERROR_NO_DEVICE`. */
const noDevice = 100;

function say(line: object): void {
  process.stdout.write(`${JSON.stringify({ pid: process.pid, ...line })}\n`);
}

function check(call: string, code: number): void {
  if (code !== 0) {
    say({ error: `${call} answered ${code}` });
    process.exit(1);
  }
}

const started: number = init(0);
const devices: [number] = [0];
if (started === noDevice || (started === 0 && count(devices) === noDevice) || (started === 0 && devices[0] === 0)) {
  say({ devices: 0 });
  process.exit(0);
}
check('cuInit', started);
const device: [number] = [0];
check('cuDeviceGet', get(device, 0));
const uuid = Buffer.alloc(16);
check('cuDeviceGetUuid', uuidOf(uuid, device[0]));
check('cuCtxCreate', createContext([null], 0, device[0]));
const pointer: [number | bigint] = [0];
check('cuMemAlloc', allocate(pointer, bytes));
check('cuMemsetD8', fill(pointer[0], 1, bytes));
check('cuCtxSynchronize', synchronize());
const hex = uuid.toString('hex');
const text = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
say({ devices: devices[0], uuid: `GPU-${text}`, bytes });
process.stdin.resume().on('end', () => process.exit(0));
