export const text = 'bundled by ' + TOOL;
