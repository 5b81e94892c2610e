#!/usr/bin/env node
const { text } = require('@page/text');

console.log(text('written', 'by', 'one', 'package'));
