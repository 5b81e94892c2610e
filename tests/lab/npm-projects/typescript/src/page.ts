import { Tool } from './tool';

export function page(tool: Tool = Tool.tsc): string {
  return `<p>compiled by ${Tool[tool]}</p>`;
}
