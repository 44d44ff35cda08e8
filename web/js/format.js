// Numbers, times and values as a reader wants them.

/**
 * Three significant places, `–` for what is not there.
 * @param {number | null | undefined} value
 */
export function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 0.001 || size >= 1e6) return value.toExponential(1).replace("-", "−");
  const text = size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(Number.isInteger(value) ? 0 : size < 0.1 ? 3 : 2);
  return text.replace("-", "−");
}

/**
 * With its sign, for what has a side.
 * @param {number | null | undefined} value
 */
export function signed(value) {
  return value !== null && value !== undefined && value > 0 ? `+${number(value)}` : number(value);
}

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`;
}

/** @param {number} seconds */
export function seconds(seconds) {
  if (seconds < 60) return `${Number(seconds.toFixed(2))} s`;
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

/**
 * How long ago, or the day.
 * @param {number | null | undefined} time Unix seconds.
 */
export function ago(time) {
  if (!time) return "–";
  const past = Date.now() / 1000 - time;
  if (past < 10) return "now";
  if (past < 60) return `${Math.floor(past)} s ago`;
  if (past < 3600) return `${Math.floor(past / 60)} min ago`;
  if (past < 86_400) return `${Math.floor(past / 3600)} h ago`;
  return new Date(time * 1000).toISOString().slice(0, 10);
}

/**
 * Any JSON value on one line or several, strings as they are.
 * @param {unknown} value
 */
export function value(value) {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  return JSON.stringify(value, null, 1)?.replace(/\n\s*/g, " ") ?? "–";
}

/**
 * A name the program uses, in words: `groups_zero_spread` → `groups zero spread`.
 * @param {string} name
 */
export function words(name) {
  return name.replace(/^(score|seconds|failed|loss)\//, "").replaceAll("_", " ");
}
