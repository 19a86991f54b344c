import type { DescService, FileRegistry } from '@bufbuild/protobuf';
import { Code, ConnectError, type Transport } from '@connectrpc/connect';
import type { CallTarget } from './grpc-failure.ts';
import { readService, UnknownSymbolError } from './reflection.ts';

const readTimeoutMs = 10_000;
const maxAddresses = 256;

export interface FoundService {
  readonly service: DescService;
  readonly registry: FileRegistry;
  /** It was read before it was asked for now. */
  readonly cached: boolean;
}

/** What servers told of their services by reflection, kept by address until a call shows that it is outdated. */
export class MethodCatalog {
  readonly #addresses = new Map<string, Map<string, Promise<FileRegistry>>>();

  /** Throws `UnknownSymbolError`, and `ConnectError` as the server or the network has it. */
  async find(transport: Transport, { address, service }: CallTarget): Promise<FoundService> {
    let services = this.#addresses.get(address);
    if (services === undefined) {
      if (this.#addresses.size >= maxAddresses) {
        this.#addresses.delete(this.#addresses.keys().next().value!);
      }
      services = new Map();
      this.#addresses.set(address, services);
    }
    let reading = services.get(service);
    const cached = reading !== undefined;
    if (reading === undefined) {
      reading = readService(transport, service, readTimeoutMs).catch((error: unknown) => {
        services.delete(service);
        throw withoutReflection(error, address, service);
      });
      services.set(service, reading);
    }
    const registry = await reading;
    const desc = registry.getService(service);
    if (desc === undefined) {
      throw new UnknownSymbolError(service);
    }
    return { service: desc, registry, cached };
  }

  forget(address: string): void {
    this.#addresses.delete(address);
  }
}

function withoutReflection(error: unknown, address: string, service: string): unknown {
  if (error instanceof ConnectError && error.code === Code.Unimplemented) {
    return new UnknownSymbolError(
      `${address} serves no reflection (v1 or v1alpha), by which ${service} could be found`,
    );
  }
  return error;
}
