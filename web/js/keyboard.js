// Keys. A page says which it knows; `?` lists them.

import { fill, h } from "./dom.js";

/** @typedef {Record<string, [does: string, run: (event: KeyboardEvent) => void]>} Keys */

/** @type {Keys} */
let known = {};
/** @type {HTMLDialogElement | null} */
let help = null;

/**
 * The keys of the page that is shown now.
 * @param {Keys} keys
 */
export function use(keys) {
  known = keys;
}

export function start() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (isWriting(event.target) || document.querySelector("dialog[open]")) return;
    if (event.key === "?") return showHelp();
    const found = known[event.key];
    if (!found) return;
    event.preventDefault();
    found[1](event);
  });
}

/** @param {EventTarget | null} target */
function isWriting(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "range"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

export function showHelp() {
  if (!help) {
    help = h("dialog", { class: "help", "aria-labelledby": "help-title" });
    document.body.append(help);
  }
  /** @type {[key: string, does: string][]} */
  const rows = [...Object.entries(known).map(([key, [does]]) => /** @type {[string, string]} */ ([key, does])), ["?", "this list"], ["Esc", "close"]];
  fill(
    help,
    h("h2", { id: "help-title" }, "Keys"),
    h("dl", { class: "keys" }, rows.map(([key, does]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, does)))),
    h("div", { class: "tools" }, h("button", { type: "button", class: "plain", on: { click: () => help?.close() } }, "Close"), h("a", { href: "/api/docs" }, "The server's interface")),
  );
  help.showModal();
}

/**
 * Mark the next or previous of several things as the current one and bring it into view.
 * @param {HTMLElement[]} items
 * @param {number} by +1 or -1
 * @returns {HTMLElement | undefined}
 */
export function step(items, by) {
  const at = items.findIndex((item) => item.classList.contains("current"));
  const next = items[at < 0 ? (by > 0 ? 0 : items.length - 1) : Math.min(items.length - 1, Math.max(0, at + by))];
  if (!next) return undefined;
  for (const item of items) item.classList.toggle("current", item === next);
  next.scrollIntoView({ block: "nearest" });
  return next;
}
