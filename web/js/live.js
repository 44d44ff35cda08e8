// Looking again while something changes: every few seconds, only while somebody looks, never two at once.

export const EVERY = 3000;

/**
 * Call `again` until it returns false, fails with a refusal, or the page is left. Returns what stops it.
 * @param {() => Promise<boolean>} again
 * @returns {() => void}
 */
export function keep(again) {
  let stopped = false;
  const turn = async () => {
    if (stopped) return;
    let more = true;
    if (!document.hidden) {
      try {
        more = await again();
      } catch {
        more = true; // A server that is away for a moment may come back.
      }
    }
    if (more && !stopped) setTimeout(turn, EVERY);
  };
  setTimeout(turn, EVERY);
  return () => {
    stopped = true;
  };
}
