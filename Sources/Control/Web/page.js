// What the publisher's and the viewer's page share.

export const element = (id) => document.getElementById(id);

const NOTICES = {
  transport: ["Not end-to-end encrypted", "This server can see and record media, and so can every viewer."],
  e2ee: [
    "Encrypted by the clients",
    "Clients say that they encrypt media end to end: this server forwards what it can't read. Whoever has the key can see and record it.",
  ],
};

/** Says in the banner which privacy mode the room is in. */
export function showPrivacy(mode) {
  // A mode that this page doesn't know is not taken for a safer one.
  const [title, text] = NOTICES[mode] ?? NOTICES.transport;
  element("privacy").dataset.mode = mode;
  element("privacy-title").textContent = title;
  element("privacy-text").textContent = text;
}

export function showState(state, words, message) {
  const target = element("state");
  target.dataset.state = state;
  target.textContent = words[state] + (message && state === "waiting" ? ` ${message}` : "");
  showError(state === "failed" ? message : "");
}

export function showError(message) {
  element("error").textContent = message ?? "";
  element("error").hidden = !message;
}

/**
 * What the address says after its #, which browsers send to nobody: an id, `room` or `room/stream`, then `&key=` with the key of
 * an encrypted room and `&view` where somebody is only to watch.
 *
 * @returns {{identifier: string, key: string, isViewOnly: boolean, problem: string}} Empty where nothing is given. `problem` says
 *   what is wrong with a damaged address: nobody is to join by one, as what was lost may be the key that was to encrypt.
 */
export function readFragment(hash = location.hash) {
  const [first, ...rest] = hash.slice(1).split("&");
  const options = new Map(rest.map(splitOption));
  const identifier = decoded(first);
  const isIdentifier = /^[A-Za-z0-9_-]{1,128}(\/[A-Za-z0-9_-]{1,128})?$/.test(identifier);
  return {
    identifier: isIdentifier ? identifier : "",
    key: options.get("key") ?? "",
    isViewOnly: options.has("view"),
    problem: problemOf(isIdentifier || !first, options),
  };
}

/** The other way about: `#…` for an address. */
export function makeFragment({ identifier, key = "", isViewOnly = false }) {
  return `#${identifier}${key ? `&key=${encodeURIComponent(key)}` : ""}${isViewOnly ? "&view" : ""}`;
}

/** Says what is wrong with an address, and lets nobody begin with it. @returns {boolean} Whether something is. */
export function refuseDamaged({ problem }, ...buttons) {
  if (!problem) return false;
  showError(`${problem} Ask for the address again, and open it as it was given to you.`);
  for (const button of buttons) element(button).disabled = true;
  return true;
}

// Another address that is pasted into the same tab differs behind the # only: browsers don't load the page again for that.
addEventListener("hashchange", () => location.reload());

function splitOption(item) {
  const [name, ...value] = item.split("=");
  return [decoded(name), decoded(value.join("="))];
}

function problemOf(hasIdentifier, options) {
  if (!hasIdentifier) return "This address is damaged: it names no room.";
  if (options.has("key") && !options.get("key")) return "This address is damaged: its key can't be read.";
  const unknown = [...options.keys()].find((name) => !["key", "view"].includes(name));
  return unknown === undefined ? "" : `This address is damaged: “${unknown}” is nothing that this page knows.`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** An id that nobody guesses. */
export function randomIdentifier() {
  const letters = "abcdefghijkmnpqrstuvwxyz23456789";
  return Array.from(crypto.getRandomValues(new Uint8Array(20)), (byte) => letters[byte % letters.length]).join("");
}

/** Shows bitrate, resolution, frame rate and round trip once a second while a session is live. */
export function showFigures(session, direction) {
  let before = null;
  const timer = setInterval(async () => {
    const connection = session.connection;
    element("figures").hidden = session.state !== "live";
    if (session.state !== "live" || !connection) {
      before = null;
      return;
    }
    const stats = [...(await connection.getStats()).values()];
    const ofType = (type) => stats.filter((item) => item.type === type);
    const rtp = ofType(direction === "send" ? "outbound-rtp" : "inbound-rtp");
    const video = rtp.find((item) => item.kind === "video");
    const bytes = rtp.reduce((sum, item) => sum + (item.bytesSent ?? item.bytesReceived ?? 0), 0);
    const now = { bytes, frames: video?.framesEncoded ?? video?.framesDecoded ?? 0, at: performance.now() };
    if (before) {
      const seconds = (now.at - before.at) / 1000;
      element("bitrate").textContent = rate(((now.bytes - before.bytes) * 8) / seconds);
      element("frame-rate").textContent = `${Math.max(0, Math.round((now.frames - before.frames) / seconds))} fps`;
    }
    before = now;
    if (video?.frameWidth) element("resolution").textContent = `${video.frameWidth} × ${video.frameHeight}`;
    const pair = ofType("candidate-pair").find((item) => item.nominated && item.currentRoundTripTime !== undefined);
    if (pair) element("round-trip").textContent = `${Math.round(pair.currentRoundTripTime * 1000)} ms`;
    const lost = element("lost");
    if (lost) lost.textContent = `${rtp.reduce((sum, item) => sum + (item.packetsLost ?? 0), 0)}`;
  }, 1000);
  return () => clearInterval(timer);
}

/** A bit rate in words. */
export function rate(bitsPerSecond) {
  return bitsPerSecond >= 1e6 ? `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bitsPerSecond / 1e3)} kbit/s`;
}
