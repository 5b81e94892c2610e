class Pool extends (class { }) {
  static #pools = new Map(); 'use' = /'/; get; set = 1
  static { this.#pools.set('a', mysql.createPool({ host: 'old', port: 3306, ssl: false })) }
  async *each() { for await (const p of Pool.#pools) yield* p?.[0]?.q ?? /}/ }
  get host() { return this.#p?.host } set host(v) { this.#p = { ...this.#p, host: v } } #p
  constructor() { super(); return this.#p = mysql?.createPool?.({ ssl: { host: 'in' }, 'port': 0x1f, "host": `old`, }), this }
  static async = async () => { await null; return class { static x = #p in this } }
}
