// The chat that was asked: roles, texts, and where the media stand in it.

import { h, name } from "../dom.js";
import { value } from "../format.js";
import { marked } from "./completion.js";

/** @import {Message} from "../types.js" */

/**
 * @param {Message[]} messages
 * @param {string} q What was searched for, marked.
 */
export function prompt(messages, q) {
  return h(
    "div",
    { class: "chat" },
    messages.map((message) =>
      h(
        "div",
        { class: `turn turn-${["user", "system", "assistant"].includes(message.role) ? message.role : "other"}` },
        h("span", { class: "role" }, name(message.role)),
        h(
          "div",
          { class: "said" },
          message.content.map((part) => {
            if (part.type === "text") return h("div", { class: "text", dir: "auto" }, marked(part.text ?? "", q));
            return h("span", { class: "medium" }, `${part.type} ${(part.media ?? 0) + 1}`);
          }),
        ),
      ),
    ),
  );
}

/**
 * What is right, and what else is known of the sample, as it is written.
 * @param {any} target
 * @param {any} meta
 * @param {string} coordinates
 */
export function known(target, meta, coordinates) {
  return h(
    "details",
    { class: "known" },
    h("summary", null, "Target and meta as written"),
    fields("target", target),
    fields("meta", meta),
    h("p", { class: "muted" }, `Coordinates in completions: ${coordinates}`),
  );
}

/**
 * @param {string} what
 * @param {any} found
 */
function fields(what, found) {
  const entries = found && typeof found === "object" ? Object.entries(found) : [[what, found]];
  return h("dl", { class: "fields-of" }, entries.map(([key, inner]) => h("div", null, h("dt", null, name(`${what}.${key}`)), h("dd", null, h("code", null, value(inner))))));
}
