// The node's HTTP API, as any other program calls it; the browser's sign-in stands for the token.

export class ApiError extends Error {
  constructor(problem, status) {
    super(problem.message ?? `the node answered ${status}`);
    this.code = problem.code ?? "internal";
    this.status = status;
    this.fields = problem.fields ?? [];
    this.retryAfter = problem.retry_after ?? null;
  }
}

/** Go to the sign-in, and come back. */
export function signIn() {
  location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
}

async function ask(method, path, body, signal) {
  let response;
  const init = { method, signal, headers: { Accept: "application/json" } };
  if (body instanceof Blob) init.body = body; // with its own type
  else if (body !== undefined) {
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({ code: "unavailable", message: "the node does not answer" }, 0);
  }
  if (response.ok) return response.status === 204 ? null : response.json();
  const problem = await response.json().catch(() => ({}));
  if (response.status === 401) signIn();
  throw new ApiError(problem, response.status);
}

const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

const job = (id) => `/jobs/${encodeURIComponent(id)}`;

export const api = {
  info: () => ask("GET", "/info"),
  script: (name) => ask("GET", `/scripts/${encodeURIComponent(name)}`),
  submit: (request) => ask("POST", "/jobs", request),
  job: (id) => ask("GET", job(id)),
  jobs: (wanted, signal) => ask("GET", `/jobs${query(wanted)}`, undefined, signal),
  cancel: (id) => ask("POST", `${job(id)}/cancel`),
  rerun: (id, newest) => ask("POST", `${job(id)}/rerun${query({ newest })}`),
  refusals: (limit) => ask("GET", `/refusals${query({ limit })}`),
  tokens: () => ask("GET", "/tokens"),
  newToken: (token) => ask("POST", "/tokens", token),
  revokeToken: (name) => ask("DELETE", `/tokens/${encodeURIComponent(name)}`),
};

export const jobPage = (id) => `/console/jobs/${encodeURIComponent(id)}`;
export const scriptPage = (name) => `/console/scripts/${name.split("/").map(encodeURIComponent).join("/")}`;
export const artifactPath = (id, name) => `${job(id)}/artifacts/${name.split("/").map(encodeURIComponent).join("/")}`;
