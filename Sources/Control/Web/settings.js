// What the room page remembers from one visit to the next: in this browser only, and never a room, a key or a token.

const NAME = "sluice-room";
const DEFAULTS = { name: "", camera: "", microphone: "", layout: "grid", joinsMuted: false, joinsHidden: false, shortcuts: true };

/** The remembered settings, or the defaults. Change them by `remember`. */
export const settings = { ...DEFAULTS, ...stored() };

/** Sets some settings, and keeps them for the next visit. */
export function remember(changes) {
  Object.assign(settings, changes);
  try {
    localStorage.setItem(NAME, JSON.stringify(settings));
  } catch {
    // A browser that stores nothing has nothing to remember.
  }
}

/** Deletes everything that this server's pages have stored. */
export function forget() {
  Object.assign(settings, DEFAULTS);
  try {
    localStorage.clear();
  } catch {
    // Nothing was stored.
  }
}

function stored() {
  try {
    const found = JSON.parse(localStorage.getItem(NAME)) ?? {};
    return Object.fromEntries(Object.entries(DEFAULTS)
      .filter(([key, value]) => typeof found[key] === typeof value)
      .map(([key]) => [key, found[key]]));
  } catch {
    return {};
  }
}
