// Light and dark, and the colours of the style sheet for what is drawn by script.

import { h, styled } from "./dom.js";

/** Whether the page is dark now. */
export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** The other theme, remembered. Returns whether it is the dark one. */
export function setTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("mmrl.theme", theme);
  } catch {
    // Forbidden: it holds until the page is loaded again.
  }
  document.dispatchEvent(new Event("theme"));
  return theme === "dark";
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("theme")));

/** @type {Map<string, string>} What `colour` found in the theme of now. */
const colours = new Map();
document.addEventListener("theme", () => colours.clear());

/**
 * A colour of the style sheet in the theme of now, looked up once: charts ask for hundreds.
 * @param {string} name A custom property, such as `--ink`.
 */
export function colour(name) {
  const known = colours.get(name) ?? used(name);
  colours.set(name, known);
  return known;
}

/**
 * Asked of an element that uses the colour: the property itself is a pair.
 * @param {string} name
 */
function used(name) {
  const user = styled(h("span", { hidden: true }), { color: `var(${name})` });
  document.body.append(user);
  const found = getComputedStyle(user).color;
  user.remove();
  return found;
}
