// What a library hands to innerHTML is text, whatever is in it: titles and descriptions come from scripts.
// Where the browser has no Trusted Types, the same is done where the form library asks for it.
"use strict";
(() => {
  const escaped = (text) => String(text).replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
  const has = "trustedTypes" in window;
  if (has) window.trustedTypes.createPolicy("default", { createHTML: escaped });
  window.DOMPurify = { sanitize: has ? String : escaped };
})();
