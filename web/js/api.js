// Asking the server. Every answer has a type (types.d.ts); every refusal is an ApiError with a sentence to show.

/** @import {RunCard, Run, Metrics, GroupCard, RowCard, Group, Tokens, HistoryPoint, Indexing, Place} from "./types.js" */
import { changed } from "./router.js";

export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * @param {string} path
 * @param {URLSearchParams | import("./router.js").Query} [query]
 * @param {RequestInit} [init]
 * @returns {Promise<Response>}
 */
async function ask(path, query, init) {
  const parameters = query instanceof URLSearchParams ? query : changed(new URLSearchParams(), query ?? {});
  const text = parameters.toString();
  let answer;
  try {
    answer = await fetch(text ? `${path}?${text}` : path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError("The viewer's server does not answer. Is `mmrl view` still running?", 0);
  }
  if (answer.ok) return answer;
  let detail = "";
  try {
    const said = (await answer.json()).detail;
    detail = typeof said === "string" ? said : JSON.stringify(said);
  } catch {
    // No JSON: the status has to do.
  }
  throw new ApiError(detail || `The server answered ${answer.status} ${answer.statusText}.`, answer.status);
}

/**
 * @param {string} path
 * @param {URLSearchParams | import("./router.js").Query} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
async function get(path, query, signal) {
  return (await ask(path, query, { signal: signal ?? null })).json();
}

/** @param {string} run */
const of = (run) => `/api/runs/${encodeURIComponent(run)}`;
/** @param {{step: number, rank: number, group: number}} at */
const place = (at) => `${at.step}/${at.rank}/${at.group}`;

/** @type {() => Promise<{folder: string, runs: RunCard[]}>} */
export const runs = () => get("/api/runs");

/** @type {(id: string) => Promise<Run>} */
export const run = (id) => get(of(id));

/** @type {(id: string, after?: number) => Promise<Metrics>} */
export const metrics = (id, after) => get(`${of(id)}/metrics`, { after });

/** @typedef {{total: number, indexing: Indexing}} Counted */

/** @type {(id: string, filters: URLSearchParams, signal?: AbortSignal) => Promise<Counted & {groups: GroupCard[]}>} */
export const groups = (id, filters, signal) => get(`${of(id)}/groups`, filters, signal);

/** @type {(id: string, filters: URLSearchParams, signal?: AbortSignal) => Promise<Counted & {rows: RowCard[]}>} */
export const rows = (id, filters, signal) => get(`${of(id)}/rows`, filters, signal);

/** @type {(id: string, at: Place) => Promise<Group>} */
export const group = (id, at) => get(`${of(id)}/groups/${place(at)}`);

/** @type {(id: string, at: Place, row: number) => Promise<Tokens>} */
export const tokens = (id, at, row) => get(`${of(id)}/tokens/${at.step}/${at.rank}/${row}`);

/** @type {(id: string, sample: string) => Promise<{points: HistoryPoint[]}>} */
export const history = (id, sample) => get(`${of(id)}/history`, { sample });

/**
 * @param {string} id
 * @param {{step: number, rank: number, row: number, star: boolean, note: string}} annotation
 */
export const annotate = (id, annotation) =>
  ask(`${of(id)}/annotations`, undefined, {
    method: "PUT",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(annotation),
  });

/**
 * Save what the server makes of a selection as a file.
 * @param {object} wanted
 */
export async function download(wanted) {
  const answer = await ask("/api/export", undefined, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(wanted),
  });
  const name = /filename="([\w. -]+)"/.exec(answer.headers.get("content-disposition") ?? "")?.[1] ?? "mmrl-export";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return name;
}
