// The page at `/`: what docs.json says, as forms. All text is put in as text, never as markup.
"use strict";

const prefix = document.documentElement.dataset.prefix;
let schemas = {};
let ids = 0;

/** An element; attributes that are functions are its listeners. */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Where a path of the document is reached from this page, whatever stands before it at a proxy. */
function address(path) {
  return new URL("." + path.slice(prefix.length), location.href.split(/[?#]/)[0]);
}

/** A schema with its reference followed, and without the `null` of an optional value. */
function plain(schema) {
  if (schema.$ref) {
    const { $ref, ...said } = schema;
    return plain({ ...schemas[$ref.split("/").pop()], ...said });
  }
  const choices = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  const others = choices?.filter((choice) => choice.type !== "null") ?? [];
  if (others.length !== 1) return schema;
  const { anyOf, oneOf, allOf, ...said } = schema;
  return { ...plain(others[0]), ...said };
}

const isFile = (schema) => schema.type === "string" && schema.format === "binary";
const isFiles = (schema) => schema.type === "array" && isFile(plain(schema.items ?? {}));

/** A type in words. */
function words(schema, depth = 0) {
  schema = plain(schema);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (isFile(schema)) return "file";
  if (schema.type === "array") {
    const isTold = depth < 3 && Object.keys(schema.items ?? {}).length > 0;
    return isTold ? `list of ${words(schema.items, depth + 1)}` : "list";
  }
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.map((choice) => words(choice, depth + 1)).join(" or ");
  if (schema.type === "object") return schema.title ?? "object";
  return [schema.type ?? "any value"].flat().join(" or ");
}

const LIMITS = {
  minimum: "at least", exclusiveMinimum: "more than", maximum: "at most", exclusiveMaximum: "less than",
  minLength: "characters at least:", maxLength: "characters at most:", pattern: "pattern", format: "format",
  minItems: "items at least:", maxItems: "items at most:",
};

function limits(schema) {
  const said = Object.keys(LIMITS).filter((key) => schema[key] !== undefined && schema[key] !== "binary");
  return said.map((key) => `${LIMITS[key]} ${schema[key]}`).join(", ");
}

/** A value to begin with, for what is written as JSON. */
function sample(schema, depth = 0) {
  schema = plain(schema);
  if (schema.default !== undefined) return schema.default;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return sample(choices[0], depth + 1);
  switch ([schema.type].flat()[0]) {
    case "object": {
      if (depth > 4) return {};
      const one = (name) => [name, sample(schema.properties?.[name] ?? {}, depth + 1)];
      return Object.fromEntries((schema.required ?? []).map(one));
    }
    case "array":
      return depth > 4 || !Object.keys(schema.items ?? {}).length
        ? []
        : Array(Math.min(schema.minItems ?? 1, 8)).fill(sample(schema.items, depth + 1));
    case "string": return "";
    case "integer": case "number": return schema.minimum ?? 0;
    case "boolean": return false;
    default: return null;
  }
}

/** One field of a form: `node` to show, and `read()` for its value, undefined where it is left out. */
function field(name, said, required) {
  const schema = plain(said);
  const id = `field-${++ids}`;
  const hint = [schema.description, limits(schema)].filter(Boolean).join("; ");
  const problem = element("p", { class: "problem", id: `${id}-problem`, hidden: true });
  const describedBy = hint ? `${id}-hint ${id}-problem` : `${id}-problem`;
  const common = { id, name, "aria-describedby": describedBy, "aria-required": required };
  const start = schema.default;
  let input;
  let parse;
  if (isFile(schema) || isFiles(schema)) {
    input = element("input", { ...common, type: "file", multiple: isFiles(schema) });
    parse = () => (isFiles(schema) ? [...input.files] : input.files[0]);
  } else if (schema.enum || schema.type === "boolean") {
    const values = schema.enum ?? [true, false];
    const options = values.map((value, index) => element("option", { value: index }, String(value)));
    if (!required) options.unshift(element("option", { value: "" }, ""));
    input = element("select", common, ...options);
    if (start !== undefined && values.includes(start)) input.value = values.indexOf(start);
    parse = () => values[input.value];
  } else if (schema.type === "integer" || schema.type === "number") {
    const step = schema.type === "integer" ? 1 : "any";
    input = element("input", { ...common, type: "number", step, value: start ?? undefined });
    parse = () => {
      if (input.validity.badInput) throw new Error("expected a number");
      return input.value === "" ? undefined : Number(input.value);
    };
  } else if (schema.type === "string") {
    input = element("textarea", { ...common, rows: 1 }, start ?? "");
    parse = () => (input.value === "" && !required ? undefined : input.value);
  } else {
    const value = start ?? (required ? sample(schema) : undefined);
    const text = value === undefined || value === null ? "" : JSON.stringify(value, null, 1);
    const rows = Math.min(10, text.split("\n").length);
    input = element("textarea", { ...common, class: "json", rows, spellcheck: "false" }, text);
    parse = () => {
      if (input.value.trim() === "") return undefined;
      try {
        return JSON.parse(input.value);
      } catch (error) {
        throw new Error(`not JSON: ${error.message}`);
      }
    };
  }
  const mark = required ? element("span", { class: "required", title: "required" }, " *") : null;
  const label = element("label", { for: id }, name, mark, element("span", { class: "type" }, words(said)));
  const tell = (message) => {
    problem.textContent = message;
    problem.hidden = !message;
    input.setAttribute("aria-invalid", String(Boolean(message)));
  };
  return {
    name,
    isFile: isFile(schema) || isFiles(schema),
    isText: schema.type === "string",
    node: element("div", { class: "field" },
      label, hint ? element("p", { class: "hint", id: `${id}-hint` }, hint) : null, input, problem),
    read() {
      tell("");
      let value;
      try {
        value = parse();
        const isEmpty = value === undefined || (isFiles(schema) && value.length === 0);
        if (required && isEmpty) throw new Error("is required");
      } catch (error) {
        tell(error.message);
        input.focus();
        throw error;
      }
      return value;
    },
  };
}

/** The fields of a request's body, and `build()` for what `fetch` takes of them. */
function bodyForm(requestBody) {
  const [type, { schema: said }] = Object.entries(requestBody.content)[0];
  const schema = plain(said);
  const isForm = type === "multipart/form-data";
  if (!isForm && (type !== "application/json" || schema.type !== "object" || !schema.properties)) {
    const whole = field("body", said, requestBody.required);
    const build = () => {
      const value = whole.read();
      if (value === undefined) return {};
      const body = type === "application/json" ? JSON.stringify(value) : value;
      return { body, headers: { "content-type": value.type || type } };
    };
    return { fields: [whole], build, type };
  }
  const required = new Set(schema.required);
  const properties = Object.entries(schema.properties ?? {});
  const fields = properties.map(([name, one]) => field(name, one, required.has(name)));
  // `**kwargs` has a field already.
  const others = schema.additionalProperties && !schema.properties?.kwargs
    ? field("more fields", { type: "object", description: "further names and their values, as JSON" }, false)
    : null;
  const build = () => {
    const values = fields.map((one) => [one, one.read()]).filter(([, value]) => value !== undefined);
    const more = Object.entries(others?.read() ?? {});
    if (!isForm) {
      const body = Object.fromEntries([...values.map(([one, value]) => [one.name, value]), ...more]);
      return { body: JSON.stringify(body), headers: { "content-type": type } };
    }
    const form = new FormData();
    for (const [one, value] of values) {
      for (const part of one.isFile ? [value].flat() : [one.isText ? value : JSON.stringify(value)]) {
        form.append(one.name, part);
      }
    }
    for (const [name, value] of more) {
      form.append(name, typeof value === "string" ? value : JSON.stringify(value));
    }
    return { body: form };
  };
  return { fields: others ? [...fields, others] : fields, build, type };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The same request for a shell. */
function curl(method, url, { body, headers }) {
  const parts = [`curl -X ${method} ${quoted(String(url))}`];
  for (const [name, value] of Object.entries(headers ?? {})) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body instanceof FormData) {
    for (const [name, value] of body) {
      // Text is sent as it is, even where it begins with `@`.
      const [option, said] = value instanceof File ? ["-F", `@${value.name}`] : ["--form-string", value];
      parts.push(`${option} ${quoted(`${name}=${said}`)}`);
    }
  } else if (body instanceof File) parts.push(`--data-binary ${quoted(`@${body.name}`)}`);
  else if (body !== undefined) parts.push(`--data-raw ${quoted(body)}`);
  return parts.join(" \\\n  ");
}

/** JSON to be read, lists of plain values on one line. Line breaks are never inside of its texts. */
function pretty(value) {
  const joined = (_, items) => `[${items.trim().replace(/\n\s*/g, " ")}]`;
  return JSON.stringify(value, null, 2).replace(/\[\n([^[\]{}]*?)\n\s*\]/g, joined);
}

/** Put what a response holds into `place`; a stream piece by piece. */
async function show(response, place) {
  const type = (response.headers.get("content-type") ?? "").split(";")[0].trim();
  const kind = type.split("/")[0];
  if (kind === "text" || type === "application/json") {
    const output = element("pre", { tabindex: "0", "aria-label": "response body" });
    place.append(output);
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
      output.append(decoder.decode(piece.value, { stream: true }));
    }
    if (type !== "application/json") return;
    try {
      const text = output.textContent;
      // Numbers beyond what JavaScript holds stay as they came.
      const value = JSON.parse(text);
      if (!/\d{16}/.test(text)) output.textContent = pretty(value);
    } catch { /* shown as it is */ }
    return;
  }
  const content = await response.blob();
  const url = URL.createObjectURL(content);
  if (kind === "image") place.append(element("img", { src: url, alt: "the response, an image" }));
  if (kind === "audio" || kind === "video") place.append(element(kind, { src: url, controls: true }));
  const disposition = response.headers.get("content-disposition") ?? "";
  const name = /filename="([^"]+)"/.exec(disposition)?.[1] ?? "response";
  const link = element("a", { href: url, download: name }, `Save ${name}, ${content.size} bytes`);
  place.append(element("p", {}, link));
}

/** One operation, closed until somebody opens it. */
function card(path, method, operation) {
  const brief = operation.summary === operation.operationId ? "" : operation.summary;
  const head = element("summary", {},
    element("span", { class: "method" }, method.toUpperCase()),
    element("span", { class: "path" }, path),
    element("span", { class: "brief" }, brief));
  const made = element("details", { class: "operation", id: operation.operationId }, head);
  made.addEventListener("toggle", () => {
    if (made.open && made.children.length === 1) made.append(inside(path, method, operation));
  });
  return made;
}

function inside(path, method, operation) {
  const query = (operation.parameters ?? []).map((one) => field(one.name, one.schema, one.required));
  const nothing = { fields: [], build: () => ({}), type: null };
  const body = operation.requestBody ? bodyForm(operation.requestBody) : nothing;
  const answer = element("div", { class: "answer" });
  const status = element("p", { class: "status", role: "status" });
  const command = element("pre", { tabindex: "0", "aria-label": "the request as a curl command" });
  const title = element("summary", {}, "as a curl command");
  const more = element("details", { class: "more", hidden: true }, title, command);
  const send = element("button", { type: "submit" }, "Send");
  const stop = element("button", { type: "button", class: "plain", disabled: true }, "Stop");
  let running = null;
  stop.addEventListener("click", () => running?.abort());

  async function submit(event) {
    event.preventDefault();
    if (running) return;
    let request;
    const url = address(path);
    try {
      for (const one of query) url.searchParams.set(one.name, one.read());
      request = body.build();
    } catch {
      return; // the field says what is wrong
    }
    command.textContent = curl(method.toUpperCase(), url, request);
    more.hidden = false;
    for (const old of answer.querySelectorAll("[src^='blob:']")) URL.revokeObjectURL(old.src);
    answer.replaceChildren();
    status.className = "status";
    status.textContent = "Waiting…";
    running = new AbortController();
    send.disabled = true;
    stop.disabled = false;
    const began = performance.now();
    try {
      const options = { method: method.toUpperCase(), signal: running.signal, ...request };
      const response = await fetch(url, options);
      status.className = `status ${response.ok ? "good" : "bad"}`;
      const line = `${response.status} ${response.statusText}`.trim();
      status.textContent = line;
      await show(response, answer);
      const id = response.headers.get("x-bentoml-request-id");
      const took = `${Math.round(performance.now() - began)} ms`;
      status.textContent = [line, took, id ? `request ${id}` : ""].filter(Boolean).join(" · ");
    } catch (error) {
      status.className = "status bad";
      status.textContent = error.name === "AbortError" ? "Stopped" : `No answer: ${error.message}`;
    } finally {
      running = null;
      send.disabled = false;
      stop.disabled = true;
    }
  }

  const text = operation.description ?? "";
  const results = Object.keys(operation.responses?.["200"]?.content ?? {});
  const takes = body.type ? `takes ${body.type}` : "";
  const returns = results.length ? `returns ${results.join(", ")}` : "";
  return element("div", { class: "body" },
    text && text !== operation.summary ? element("p", { class: "text" }, text) : null,
    element("p", { class: "hint" }, [takes, returns].filter(Boolean).join(", ")),
    element("form", { novalidate: true, submit },
      ...[...query, ...body.fields].map((one) => one.node),
      element("div", { class: "actions" }, send, stop)),
    element("div", {}, status, answer),
    more);
}

async function start() {
  const place = document.getElementById("operations");
  try {
    const response = await fetch("docs.json");
    if (!response.ok) throw new Error(`docs.json: ${response.status}`);
    const described = await response.json();
    schemas = described.components?.schemas ?? {};
    const text = document.getElementById("description");
    text.className = "text";
    text.textContent = described.info.description ?? "";
    const cards = Object.entries(described.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => card(path, method, operation)));
    const shown = cards.length ? cards : [element("p", {}, "This service has no endpoints.")];
    place.replaceChildren(...shown);
    const named = document.getElementById(location.hash.slice(1));
    if (named ?? cards.length === 1) (named ?? cards[0]).open = true;
  } catch (error) {
    const message = `The document cannot be shown: ${error.message}`;
    place.replaceChildren(element("p", { class: "problem", role: "alert" }, message));
  } finally {
    place.setAttribute("aria-busy", "false");
  }
}

start();
