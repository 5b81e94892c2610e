import { paragraph } from './html.js';

export const page = () => paragraph(`bundled by ${tool}`);
