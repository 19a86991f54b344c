# workerd's configuration: `npm run build`, then `npm run start:workerd`, with DATABASE_URL in the environment.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    # Postgres may stand on this machine or in a private network.
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:7802", http = (), service = "edge")],
);

const edge :Workerd.Worker = (
  modules = [(name = "worker", esModule = embed "dist/worker.js")],
  compatibilityDate = "2026-07-01",
  compatibilityFlags = ["nodejs_compat"],
  bindings = [
    (name = "DATABASE_URL", fromEnvironment = "DATABASE_URL"),
    (name = "BATON_DATABASE_POOLED", fromEnvironment = "BATON_DATABASE_POOLED"),
    (name = "BATON_STREAM_MS", fromEnvironment = "BATON_STREAM_MS"),
  ],
);
