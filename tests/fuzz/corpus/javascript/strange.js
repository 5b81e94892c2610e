#!/usr/bin/env node
var a = 1
/2/1; "}"
mysql . createPool ( /* { */ { 'host' : "o\
ld" , "port":0x1F,ssl : !0 } ) // {
x = { mysql: { createPool() {} } }
mysql?.createPool?.({ ['host']: `a${`b`}`, get port() { return 1 }, async *ssl() {} })
