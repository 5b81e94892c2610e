const a = 4 / 2 / 1, b = /[/'"`]/g, c = a++ / 2, d = (a) / 2, e = [a][0] / 2
const f = x => x / 2 // it's
if (a) /'/.test('}'); else /"/g.exec("{")
for (const g of /a,b/[Symbol.split]('x')) { }
const h = { a: 1 }.a / 2, i = function () { } / 2, j = `${1 / 2}` / 2
do /'/.test(''); while (/}/.test('x'))
mysql.createPool({ host: /x/.source, port: 1 / 2, ssl: !/'/.test('') }) / 2 / 1
