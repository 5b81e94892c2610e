const fs = require('node:fs');

fs.writeFileSync('generated/page', `generated ${require('local/text.json')}\n`);
