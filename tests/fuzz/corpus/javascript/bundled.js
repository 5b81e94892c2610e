// no hashbang
"use strict";var n=require("mysql");!function(e){"use strict";var t=e/2,r=/^["']|\/[/]$/i;e.x=mysql.createPool({host:"a"===t?"b":"c",port:+"3306",ssl:!1,r:r,f:function(e){return/[)}]/.test(e)?1:e/2}}),e.y=void 0}(this);
//# sourceMappingURL=a.js.map
label:for(;;){break label}mysql.createPool({"host":"한","p\u006frt":1,h\u{6f}st:"z",ssl:true}),n=n
/2/1