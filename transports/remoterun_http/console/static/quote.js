// The exact call of a script in other languages; pure. Every value arrives as it is, whatever is in it.

/** A word of a POSIX shell. What is no printable ASCII is written as bash, zsh and ksh read it. */
export function shell(text) {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(text)) return text;
  if (/[\u0000-\u001f\u007f]/.test(text)) {
    const escaped = text.replace(/[\\']/g, "\\$&").replace(/\n/g, "\\n").replace(/\t/g, "\\t").replace(/\r/g, "\\r");
    return `$'${escaped.replace(/[\u0000-\u001f\u007f]/g, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`)}'`;
  }
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A Python literal. */
export function python(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([key, item]) => `${python(key)}: ${python(item)}`).join(", ")}}`;
  }
  return typeof value === "number" ? String(value) : JSON.stringify(value).replace(/[\u007f-\u{10ffff}]/gu, pythonEscape);
}

const pythonEscape = (one) => {
  const code = one.codePointAt(0);
  if (code < 0x20 || code === 0x7f || (code >= 0x80 && code < 0xa0) || /\p{Cf}|\p{Cs}/u.test(one)) {
    return code > 0xffff ? `\\U${code.toString(16).padStart(8, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  }
  return one;
};

const KEYWORDS = new Set(
  ("False None True and as assert async await break class continue def del elif else except finally for from global if " +
    "import in is lambda nonlocal not or pass raise return try while with yield").split(" "),
);
const isName = (key) => /^[A-Za-z_]\w*$/.test(key) && !KEYWORDS.has(key);

/** A parameter in the grammar of the command line and the raw socket: key=text, key:=json. */
const word = ([key, value]) => (typeof value === "string" ? `${key}=${value}` : `${key}:=${JSON.stringify(value)}`);

const options = (request) => (request.timeout ? ["--timeout", String(request.timeout)] : []);

export function cli(request, files = []) {
  const words = ["remoterun", "run", ...options(request), request.script];
  if (request.params) words.push(...Object.entries(request.params).map(word));
  words.push(...files.map(([path, name]) => `${path}@${name}`));
  if (request.args?.length) words.push("--", ...request.args);
  const line = words.map(shell).join(" ");
  return request.stdin ? `printf %s ${shell(request.stdin)} | ${line}` : line;
}

export function curl(request, origin, files = []) {
  const path = request.script.split("/").map(encodeURIComponent).join("/");
  const { script, params, timeout, ...rest } = request;
  const body = params ?? rest;
  const lines = [`curl -H "Authorization: Bearer $REMOTERUN_TOKEN"`, `-H 'Content-Type: application/json'`];
  if (timeout) lines.push(`-H 'Remoterun-Timeout: ${timeout}'`);
  if (files.length) {
    lines.splice(1, 1);
    const texts = Object.entries(params ?? {}).map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
    lines.push(...texts.map((text) => `--form-string ${shell(text)}`), ...files.map(([path, name]) => `-F ${shell(`${path}=@"${name.replace(/["\\]/g, "\\$&")}"`)}`));
    return [...lines, shell(`${origin}/run/${path}`)].join(" \\\n     ");
  }
  lines.push(`-d ${shell(JSON.stringify(body))}`, shell(`${origin}/run/${path}`));
  return lines.join(" \\\n     ");
}

export function redis(request, host, port) {
  const words = ["redis-cli", "-h", host, "-p", port, "-a"];
  const said = ["RUN", request.script];
  if (request.params) said.push(...Object.entries(request.params).map(word));
  if (request.timeout) said.push("TIMEOUT", String(request.timeout));
  if (request.stdin) said.push("STDIN", request.stdin);
  if (request.args?.length) said.push("--", ...request.args);
  return `${words.join(" ")} "$REMOTERUN_TOKEN" ${said.map(shell).join(" ")}`;
}

export function pythonCall(request, url) {
  const { script, params, args, stdin, timeout } = request;
  const names = Object.entries(params ?? {});
  const easy = names.filter(([key]) => isName(key));
  const given = easy.map(([key, value]) => `${key}=${python(value)}`);
  if (easy.length < names.length) given.push(`**${python(Object.fromEntries(names.filter((name) => !easy.includes(name))))}`);
  const bound = [python(script)];
  if (args?.length) bound.push(`args=${python(args)}`);
  if (stdin) bound.push(`stdin=${python(stdin)}`);
  if (timeout) bound.push(`timeout=${timeout}`);
  const call = bound.length > 1 ? `script(${bound.join(", ")}).run(${given.join(", ")})` : `run(${[...bound, ...given].join(", ")})`;
  return `import os\nfrom remoterun import connect\n\nwith connect(${python(url)}, os.environ["REMOTERUN_TOKEN"]) as node:\n    print(node.${call})`;
}

export function queue(request, files = []) {
  const sent = files.length ? { files: Object.fromEntries(files.map(([path, name]) => [path, { name, data_base64: "…" }])) } : {};
  return JSON.stringify({ ...request, ...sent }, null, 2);
}
