// The address says everything that is seen: path and query make the page, going back makes the earlier one.

/**
 * @typedef {object} Route
 * @property {string} page
 * @property {string[]} parts Of the path, decoded.
 * @property {URLSearchParams} query
 */
/** @typedef {Record<string, string | number | boolean | null | undefined | string[]>} Query */

/** @type {() => void} */
let render = () => {};

/**
 * Start: `onRoute` is called now and whenever the address changes.
 * @param {(route: Route) => void} onRoute
 */
export function start(onRoute) {
  render = () => onRoute(current());
  window.addEventListener("popstate", render);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
    if (!(link instanceof HTMLAnchorElement) || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey || link.hasAttribute("download")) return;
    const to = new URL(link.href);
    if (to.origin !== location.origin || to.pathname.startsWith("/api/")) return;
    if (to.hash && to.pathname === location.pathname && to.search === location.search) return;
    event.preventDefault();
    go(to.pathname + to.search);
  });
  render();
}

/** @returns {Route} */
export function current() {
  const parts = location.pathname.split("/").filter(Boolean).map(decoded);
  const query = new URLSearchParams(location.search);
  if (parts.length === 0) return { page: query.has("compare") ? "compare" : "runs", parts, query };
  if (parts[0] === "run" && parts.length === 2) return { page: "run", parts, query };
  if (parts[0] === "run" && parts[2] === "group" && parts.length === 6) return { page: "group", parts, query };
  return { page: "unknown", parts, query };
}

/** @param {string} part */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/**
 * Go to an address, as if its link was followed.
 * @param {string} address
 */
export function go(address) {
  history.pushState(null, "", address);
  render();
}

/**
 * Change parts of the query, null removes one. The page has drawn the change already, or draws it now.
 * @param {Query} changes
 * @param {{draw?: boolean, push?: boolean}} [how]
 */
export function update(changes, { draw = false, push = false } = {}) {
  const address = withQuery(location.pathname, changed(new URLSearchParams(location.search), changes));
  if (push) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
  if (draw) render();
}

/**
 * A copy of a query with changes.
 * @param {URLSearchParams} query
 * @param {Query} changes
 */
export function changed(query, changes) {
  const copy = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    copy.delete(name);
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== false && one !== "") copy.append(name, String(one));
    }
  }
  return copy;
}

/**
 * @param {string} path
 * @param {URLSearchParams | Query} [query]
 */
export function withQuery(path, query) {
  const parameters = query instanceof URLSearchParams ? query : changed(new URLSearchParams(), query ?? {});
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

/**
 * @param {string} run
 * @param {URLSearchParams | Query} [query]
 */
export function runPath(run, query) {
  return withQuery(`/run/${encodeURIComponent(run)}`, query);
}

/**
 * @param {string} run
 * @param {{step: number, rank: number, group: number}} at
 * @param {URLSearchParams | Query} [query]
 */
export function groupPath(run, at, query) {
  return withQuery(`/run/${encodeURIComponent(run)}/group/${at.step}/${at.rank}/${at.group}`, query);
}
