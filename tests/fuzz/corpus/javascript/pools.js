import mysql from 'mysql2/promise'; import { readFileSync as get } from 'node:fs'
export const pool = mysql.createPool({
  // host: 'commented',
  /* port: 1, */ host
  : process.env.DB_HOST ?? 'localhost', port: Number(process.env.DB_PORT || 3306),
  ssl: process.env.NODE_ENV === 'production' ? { ca: get('/ca.pem', 'utf8'), host: 'x' } : undefined,
  typeCast(field, next) { return field.type === 'TINY' && field.length === 1 ? field.string() === '1' : next() },
  get user() { return `root${''}` }, ['password']: '\x70\u{61}\
ss', waitForConnections: true, connectionLimit: 1e1, // trailing
})
export default { read: mysql.createPool({ ...base, host: "read.db", port: 3307, ssl: !0 }), write: () => mysql.createPool({ host, port, ssl }) }
await pool.query(`SELECT '${`}`}' -- it's`, [/[}]/])
