import { type CliConfig, shownValue, withFlags } from '../config.ts';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { printTable } from '../terminal/table.ts';

const ABOUT: Readonly<Record<keyof CliConfig, { readonly variable: string; readonly about: string }>> = {
  url: { variable: 'BATON_URL', about: 'where Baton is' },
  namespace: { variable: 'BATON_NAMESPACE', about: 'the namespace of every request' },
  port: { variable: 'BATON_PORT', about: 'where a master started here listens; 0 is any free port' },
  home: { variable: 'BATON_HOME', about: 'where Baton keeps its data on this machine' },
  compression: { variable: 'BATON_COMPRESSION', about: 'whether messages travel compressed' },
  logDir: { variable: 'LOG_DIR', about: 'where structured logs are written' },
  logLevel: { variable: 'BATON_LOG_LEVEL', about: 'the least level that is logged' },
  databaseUrl: { variable: 'DATABASE_URL', about: 'Postgres; empty is the embedded one' },
};

/** `baton config show`. Passwords are not shown. */
export async function show(this: CliContext, flags: CommonFlags): Promise<void> {
  const config = withFlags(this.config, flags);
  const settings = (Object.keys(ABOUT) as (keyof CliConfig)[]).map((name) => {
    const { value, source, from } = config[name];
    return { name, value: shownValue(name, value), source, from, ...ABOUT[name] };
  });
  if (flags.output === 'json') {
    this.screen.json(settings);
    return;
  }
  printTable(
    this.screen,
    ['SETTING', 'VALUE', 'SOURCE', 'VARIABLE', 'MEANING'],
    settings.map(({ name, value, source, from, variable, about }) => [
      name,
      value,
      source === 'default' ? source : `${source}: ${from}`,
      variable,
      about,
    ]),
  );
}
