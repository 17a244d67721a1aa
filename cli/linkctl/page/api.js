// The session, and calls of the API through the server that sent this page.

const PATIENCE_MS = 40_000; // longer than the server waits for the API
let token = localStorage.getItem("token");
let calls = 0;

/** An answer that is an error; `status` 0: none came. */
export class Failed extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Open a session with the secret in the link, if it has one; return what the server says about itself. */
export async function session() {
  const secret = location.hash.slice(1);
  if (secret && !secret.startsWith("/")) {
    history.replaceState(null, "", "#/");
    token = (await send("POST", "/session", secret)).token;
    localStorage.setItem("token", token);
  }
  return send("GET", "/session");
}

/** Call the API; `path` as in docs/api.md. */
export async function call(method, path, body, signal) {
  calls += 1;
  return send(method, `/api${path}`, body && JSON.stringify(body), signal);
}

/** How many calls were made since this was last asked. */
export function counted() {
  const counted = calls;
  calls = 0;
  return counted;
}

async function send(method, path, body, signal) {
  const signals = [AbortSignal.timeout(PATIENCE_MS), signal].filter(Boolean);
  let answer, text;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers: { "X-Linkctl-Token": token ?? "" },
      signal: AbortSignal.any(signals),
    });
    text = await answer.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failed(0, "linkctl console does not answer. Is it still running? If not, start it again.");
  }
  let content = null;
  try {
    content = text && JSON.parse(text);
  } catch {
    content = { error: text.slice(0, 500) };
  }
  if (!answer.ok) throw new Failed(answer.status, reason(answer.status, content));
  return content;
}

function reason(status, content) {
  if (content?.errors) return Object.entries(content.errors).map(([name, all]) => `${name}: ${all.join("; ")}`).join("\n");
  const text = content?.error ?? content?.message ?? content?.Message ?? "no reason was given";
  const hint = status === 403 && !content?.error ? " Do these AWS credentials have execute-api:Invoke on the API?" : "";
  return `${text} (${status})${hint}`;
}
