// How does a page talk to the API? Same origin, JSON, the session's cookie and its CSRF token; errors as problem documents.

/** A 4xx or 5xx, with the problem document's `code` and `detail`. */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `HTTP ${status}`);
    this.status = status;
    this.code = document.code ?? "unknown";
    this.errors = document.errors ?? [];
  }
}

const token = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

async function checked(response) {
  if (response.ok) return response;
  if (response.status === 401) location.assign(`/signin?next=${encodeURIComponent(location.pathname + location.search)}`);
  const isProblem = (response.headers.get("content-type") ?? "").includes("json");
  throw new Problem(response.status, isProblem ? await response.json() : {});
}

/** GET as JSON. */
export async function get(path, signal) {
  return (await checked(await fetch(path, { signal, headers: { Accept: "application/json" } }))).json();
}

/** Send JSON with a method that changes something; resolves to the answer, or null for 204. */
export async function send(method, path, body = {}, { keepalive = false, headers: further = {} } = {}) {
  const headers = { "Content-Type": "application/json", "X-CSRF-Token": token(), ...further };
  const response = await checked(await fetch(path, { method, headers, body: JSON.stringify(body), keepalive }));
  return response.status === 204 ? null : response.json();
}

/** PUT bytes, as a corrected mask. */
export async function putBytes(path, blob, headers = {}) {
  const all = { "Content-Type": blob.type, "X-CSRF-Token": token(), ...headers };
  return (await checked(await fetch(path, { method: "PUT", headers: all, body: blob }))).json();
}

/** Bytes of our own origin. */
export async function blob(path) {
  return (await checked(await fetch(path))).blob();
}

/** An image of our own origin as pixels. */
export async function bitmap(path) {
  return createImageBitmap(await blob(path));
}
