export enum Tool {
  babel,
  tsc,
}
