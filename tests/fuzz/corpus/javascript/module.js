'use strict'
const mysql = require('mysql2')
class Pool {
  static #one = null
  static get one() { return this.#one ??= mysql.createPool({ host, port: 3306, ssl: false, ...rest, host: process.env.HOST || 'localhost' }) }
}
const { one } = Pool
label: for (const a of [1]) { if (a) continue label; else break }
module.exports = async () => ({ one, re: /[/}]/u, t: `${`${1}`}` })
