import type { MetricValue } from './metric-value.ts';

/** The text form of Prometheus, 0.0.4: what a name means is said once, its values with their labels follow. */
export function metricsText(metrics: readonly MetricValue[]): string {
  const byName = new Map<string, MetricValue[]>();
  for (const metric of metrics) {
    const others = byName.get(metric.name);
    if (others) others.push(metric);
    else byName.set(metric.name, [metric]);
  }
  const lines = [...byName].flatMap(([name, values]) => [
    `# HELP ${name} ${values[0]!.help}`,
    `# TYPE ${name} ${values[0]!.type}`,
    ...values.map(({ labels, value }) => `${name}${labelsText(labels)} ${value}`),
  ]);
  return `${lines.join('\n')}\n`;
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
