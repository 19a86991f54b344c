/** Whether something that was thrown is an error of this name, of whatever copy of this package. */
export function isNamed(value: unknown, name: string): boolean {
  return value instanceof Error && value.name === name;
}
