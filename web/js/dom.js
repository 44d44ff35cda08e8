// Building elements. Whatever a model, a data set or a file name says becomes text here and never markup: there is no
// innerHTML in this page, tags and attributes are on a list, and addresses lead to this server only.

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, any>} Attributes `on: {event: handler}`; true = present, false and null = absent */

const TAGS = new Set(
  ("a article b bdi button canvas code dd details dialog div dl dt em fieldset figcaption figure form h1 h2 h3 header " +
    "img input kbd label legend li mark nav ol option p pre progress section select small span summary table tbody td " +
    "textarea th thead time tr ul video").split(" "),
);
const SVG_TAGS = new Set("svg g path rect circle line polyline text title".split(" "));
const ATTRIBUTES = new Set(
  ("alt autocomplete checked class colspan controls datetime decoding dir disabled for height hidden href id lang list loading loop max " +
    "maxlength min multiple muted name open placeholder playsinline preload readonly rel role rows scope selected " +
    "spellcheck src step tabindex title type value width").split(" "),
);
const SVG_ATTRIBUTES = new Set(
  ("class cx cy d fill focusable height preserveAspectRatio points r role rx stroke stroke-width stroke-dasharray " +
    "text-anchor vector-effect viewBox width x x1 x2 y y1 y2").split(" "),
);

/**
 * An element. Strings among the children become text as `shown` writes it.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  if (!TAGS.has(tag)) throw new Error(`<${tag}> is not an element this page builds`);
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") listen(element, value);
    else set(element, name, value, ATTRIBUTES);
  }
  element.append(...nodes(children));
  return element;
}

/**
 * An SVG element.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes, ...children) {
  if (!SVG_TAGS.has(tag)) throw new Error(`<${tag}> is not an element this page draws`);
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === "on") listen(element, value);
    else set(element, name, value, SVG_ATTRIBUTES);
  }
  element.append(...nodes(children));
  return element;
}

/**
 * Replace everything in an element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

/**
 * Lengths and colours of an element, by the CSS object model: style attributes are forbidden by the page's policy.
 * @template {HTMLElement | SVGElement} E
 * @param {E} element
 * @param {Record<string, string>} properties
 * @returns {E}
 */
export function styled(element, properties) {
  for (const [name, value] of Object.entries(properties)) element.style.setProperty(name, value);
  return element;
}

/**
 * @param {(Child | Child[])[]} children
 * @returns {Node[]}
 */
function nodes(children) {
  return children.flat().flatMap((child) => {
    if (child === null || child === undefined || child === false) return [];
    if (child instanceof Node) return [child];
    return shown(String(child));
  });
}

/**
 * @param {Element} element
 * @param {Record<string, EventListener>} handlers
 */
function listen(element, handlers) {
  for (const [event, handler] of Object.entries(handlers)) element.addEventListener(event, handler);
}

/**
 * @param {Element} element
 * @param {string} name
 * @param {any} value
 * @param {Set<string>} allowed
 */
function set(element, name, value, allowed) {
  if (!allowed.has(name) && !/^(aria|data)-[a-z-]+$/.test(name)) throw new Error(`${name} is not an attribute this page sets`);
  if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) return;
  if (name === "href" && !isOwnAddress(value)) throw new Error(`not an address of this page: ${value}`);
  if (name === "src" && !isServed(value)) throw new Error(`not a file of this server: ${value}`);
  element.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : plain(String(value)));
}

/**
 * Whether a link may lead there: a path of this server, or a place in this page.
 * @param {unknown} address
 */
export function isOwnAddress(address) {
  return typeof address === "string" && /^(\/(?![/\\])|#|\?)/.test(address) && !/[\0-\x20]/.test(address);
}

/**
 * Whether media may come from there: the server's own interface.
 * @param {unknown} address
 */
export function isServed(address) {
  return typeof address === "string" && /^(\/api\/|api\/|blob:)/.test(address) && !/[\0-\x20]/.test(address);
}

// Control characters but tab and newline; those that reorder the text around them; those that cannot be seen.
const HIDDEN =
  /[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e007f}]/gu;

/**
 * Text with its hidden characters named: `⟨U+202E⟩`. For attributes and titles.
 * @param {string} text
 */
export function plain(text) {
  return text.toWellFormed().replace(HIDDEN, (character) => `⟨${code(character)}⟩`);
}

/**
 * Text as nodes: hidden characters become a small box with their code.
 * @param {string} text
 * @returns {Node[]}
 */
export function shown(text) {
  /** @type {Node[]} */
  const found = [];
  let end = 0;
  for (const match of (text = text.toWellFormed()).matchAll(HIDDEN)) {
    if (match.index > end) found.push(document.createTextNode(text.slice(end, match.index)));
    const box = document.createElement("span");
    box.className = "hidden-character";
    box.title = "a character that is not seen";
    box.textContent = code(match[0]);
    found.push(box);
    end = match.index + match[0].length;
  }
  if (end < text.length || !found.length) found.push(document.createTextNode(text.slice(end)));
  return found;
}

/** @param {string} character */
function code(character) {
  return `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/**
 * A name or a completion, kept apart from the text around it whatever its direction.
 * @param {string} text
 */
export function name(text) {
  return h("bdi", null, text);
}

/**
 * Tell those who listen to the page rather than see it.
 * @param {string} text
 */
export function announce(text) {
  const status = document.getElementById("status");
  if (status) status.textContent = plain(text);
}
