export interface InitFlags {
  readonly packages?: string;
}
