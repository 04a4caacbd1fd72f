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

const STAY = "sluice-stay";

/** Keeps what lets this tab back into the room when it is loaded again: until the tab is closed, or the room is left. */
export function keepStay(secret) {
  try {
    sessionStorage.setItem(STAY, secret);
  } catch {
    // Then a page that is loaded again comes as somebody new.
  }
}

/** @returns {string|undefined} */
export function lastStay() {
  try {
    return sessionStorage.getItem(STAY) ?? undefined;
  } catch {
    return undefined;
  }
}

export function forgetStay() {
  try {
    sessionStorage.removeItem(STAY);
  } catch {
    // Nothing was stored.
  }
}

/** Deletes everything that this server's pages have stored. */
export function forget() {
  Object.assign(settings, DEFAULTS);
  try {
    localStorage.clear();
    sessionStorage.clear();
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
