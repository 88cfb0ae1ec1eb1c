// JSON Schema as the node gives it, made ready for the form library; and the form's value, made ready for the node.

const EMPTY = Symbol("left empty");

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const FORMATS = { date: "date", time: "time", "date-time": "datetime-local", email: "email", uri: "url", password: "password" };
const clone = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));

export const PLAIN = {
  type: "object",
  properties: {
    args: { type: "array", items: { type: "string" }, description: "What the script finds in sys.argv, one value a field." },
    stdin: { type: "string", description: "What it reads from its standard input.", "x-format": "textarea" },
  },
};

/** Whether a schema is that of a file which the caller sends along. */
const isUpload = (schema) => schema?.format === "upload";

/** Give the alternatives of a type that are not "nothing", and whether nothing is one of them. */
function withoutNull(schema) {
  const kinds = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(schema.type) && schema.type.includes("null")) {
    const rest = schema.type.filter((kind) => kind !== "null");
    return [{ ...schema, type: rest.length === 1 ? rest[0] : rest }, true];
  }
  if (!kinds?.some((kind) => kind.type === "null")) return [schema, false];
  const rest = kinds.filter((kind) => kind.type !== "null");
  const { anyOf, oneOf, ...own } = schema;
  return [rest.length === 1 ? { ...rest[0], ...own } : { ...own, anyOf: rest }, true];
}

function prepared(schema, root, key, required, depth) {
  if (schema === true || schema === undefined) schema = {};
  while (schema.$ref) {
    const { $ref, ...own } = schema;
    schema = { ...(root.$defs?.[$ref.replace("#/$defs/", "")] ?? {}), ...own };
  }
  let [made, nullable] = withoutNull(schema);
  while (made.$ref) {
    const { $ref, ...own } = made;
    made = { ...(root.$defs?.[$ref.replace("#/$defs/", "")] ?? {}), ...own };
  }
  made = { ...made, title: key, "x-required": required, "x-nullable": nullable };
  if (made.default === null) delete made.default;
  if (made.const !== undefined && made.enum === undefined) made.enum = [made.const];
  const inner = (part, name, isRequired) => prepared(part, root, name, isRequired, depth + 1);
  if (depth > 6) return asJson(made);
  if (isUpload(made)) return asUpload(made, false);
  for (const word of ["anyOf", "oneOf"]) {
    if (made[word]) return { ...made, [word]: made[word].map((part) => ({ ...inner(part, key, required), description: made.description, "x-switcherTitle": alternative(part) })) };
  }
  if (made.allOf?.length === 1) return inner({ ...made.allOf[0], ...made, allOf: undefined }, key, required);
  if (made.enum && made.enum.some((value) => typeof value !== "string")) return asChoice(made);
  switch (made.type) {
    case "object":
      if (!made.properties || !Object.keys(made.properties).length) return asJson(made);
      made.properties = Object.fromEntries(
        Object.entries(made.properties).map(([name, part]) => [name, inner(part, name, (made.required ?? []).includes(name))]),
      );
      delete made.additionalProperties;
      return made;
    case "array":
      if (made.prefixItems) {
        made.prefixItems = made.prefixItems.map((part, number) => inner(part, String(number), true));
        return { ...made, "x-format": "tuple" };
      }
      made.items = inner(made.items ?? {}, "item", true);
      if (made.items["x-upload"]) return asUpload(made, true);
      if (made.items.enum && made.uniqueItems) made["x-format"] = "checkboxes";
      return made;
    case "integer":
    case "number":
      return asNumber(made);
    case "boolean":
      return nullable || (made.default === undefined && required) ? asChoice({ ...made, enum: [true, false] }) : { ...made, "x-format": "checkbox" };
    case "string":
      return asText(made);
    default:
      return asJson(made);
  }
}

function alternative(part) {
  const named = part.$ref ? part.$ref.split("/").pop() : null;
  return named ?? part.title ?? part.format ?? part.type ?? "any";
}

/** A file, or several: its field is made by the form, its bytes go beside the parameters. */
function asUpload(made, several) {
  const { title, description } = made;
  return { type: "string", title, ...(description ? { description } : {}), "x-required": made["x-required"], "x-nullable": made["x-nullable"], "x-upload": true, "x-several": several };
}

function asNumber(made) {
  const isWhole = made.type === "integer";
  const attributes = { inputmode: isWhole ? "numeric" : "decimal", step: isWhole ? "1" : "any" };
  return { ...made, type: ["number", "null"], "x-whole": isWhole, "x-format": "number-nullable", "x-inputAttributes": attributes };
}

function asText(made) {
  if (made.enum) return made.default === undefined ? { ...made, enum: ["", ...made.enum.filter((one) => one !== "")] } : made;
  const secret = made.writeOnly || made.format === "password";
  const long = (made.default ?? "").includes("\n") || made.contentMediaType?.startsWith("text/");
  const format = secret ? "password" : long ? "textarea" : FORMATS[made.format];
  const attributes = { autocomplete: secret ? "new-password" : "off", spellcheck: "false" };
  if (format === "datetime-local" || format === "time") attributes.step = "1";
  const kept = { ...made };
  delete kept.format; // a wish for the browser's field; what is right the node says
  delete kept.pattern;
  return { ...kept, ...(format ? { "x-format": format } : {}), "x-secret": secret, "x-inputAttributes": attributes };
}

/** Choices that are not all texts: each is shown, and kept, as its JSON. */
function asChoice(made) {
  const texts = made.enum.map((value) => JSON.stringify(value));
  const given = made.default === undefined ? {} : { default: JSON.stringify(made.default) };
  const { default: _, ...rest } = made;
  return { ...rest, ...given, type: "string", enum: given.default === undefined ? ["", ...texts] : texts, "x-json": true };
}

function asJson(made) {
  const { default: value, properties, items, anyOf, oneOf, enum: _, required, additionalProperties, ...rest } = made;
  const given = value === undefined ? {} : { default: JSON.stringify(value) };
  const hint = [made.description, "As JSON."].filter(Boolean).join(" ");
  const attributes = { spellcheck: "false", placeholder: made.type === "object" ? '{"key": "value"}' : "null" };
  return { ...rest, ...given, type: "string", description: hint, "x-format": "textarea", "x-json": true, "x-inputAttributes": attributes };
}

/** Make a schema that the form library shows as wanted. */
export function prepare(parameters) {
  const root = clone(parameters ?? PLAIN);
  const required = root.required ?? [];
  const properties = Object.entries(root.properties ?? {});
  // As JSON: the form library does not end where a schema shares parts, or has members that are undefined.
  return clone({
    type: "object",
    properties: Object.fromEntries(properties.map(([name, part]) => [name, prepared(part, root, name, required.includes(name), 0)])),
  });
}

/** Give former values as the form holds them; what they do not say stays as the untouched form has it. */
export function intoForm(value, schema, pristine) {
  if (schema["x-secret"] || schema["x-upload"] || value === undefined) return pristine;
  if (schema["x-json"]) return JSON.stringify(value);
  if (value === null) return pristine;
  if (schema.type === "object" && isObject(value) && schema.properties) {
    return Object.fromEntries(Object.entries(schema.properties).map(([name, part]) => [name, intoForm(value[name], part, pristine?.[name])]));
  }
  if (schema.type === "array" && Array.isArray(value)) {
    return value.map((item, number) => intoForm(item, schema.prefixItems?.[number] ?? schema.items ?? {}, undefined));
  }
  return value;
}

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

function parsed(text, path) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw Object.assign(new Error("that is no JSON"), { fields: [{ field: path.join("."), message: `that is no JSON: ${error.message}` }] });
  }
}

/** What the form's value says, with the knowledge of which alternative is chosen where there are several. */
class Reading {
  constructor(chosen) {
    this.chosen = chosen;
  }

  value(value, schema, path) {
    const kinds = schema.anyOf ?? schema.oneOf;
    if (kinds) return this.value(value, kinds[this.chosen(path)] ?? kinds[0], path);
    if (schema["x-upload"]) return EMPTY;
    if (schema["x-json"]) return value === "" || value === undefined ? EMPTY : parsed(value, path);
    if (schema.type === "object" && isObject(value) && schema.properties) return this.object(value, schema, {}, path);
    if (schema.type === "array" && Array.isArray(value)) return this.list(value, schema, path);
    if (value === null || value === undefined) return EMPTY;
    const isText = schema.type === "string" && (schema["x-format"] === undefined || schema["x-format"] === "textarea") && !schema.enum;
    return value === "" && !isText ? EMPTY : value;
  }

  list(value, schema, path) {
    return value.map((item, number) => {
      const given = this.value(item, schema.prefixItems?.[number] ?? schema.items ?? {}, [...path, number]);
      return given === EMPTY ? null : given;
    });
  }

  object(value, schema, pristine, path) {
    const found = {};
    for (const [name, part] of Object.entries(schema.properties)) {
      const isUntouched = name in pristine && same(value[name], pristine[name]);
      if (isUntouched && (!part["x-required"] || value[name] === "" || value[name] === null)) continue;
      const given = this.value(value[name], part, [...path, name]);
      if (given !== EMPTY) found[name] = given;
    }
    return found;
  }
}

/**
 * Give the parameters that a form's value says: what was left as it was is not sent.
 * `pristine` is the untouched form's value, `chosen` tells which alternative is chosen at a path.
 */
export const outOfForm = (value, schema, pristine, chosen) => new Reading(chosen).object(value ?? {}, schema, pristine, []);
