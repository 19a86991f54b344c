/** One value of a metric, as it is shown. */
export interface MetricValue {
  name: string;
  labels: Record<string, string>;
  value: number;
  help: string;
  type: 'counter' | 'gauge';
}
