// Cameras and microphones: a page's lists of them, opening them, and words for what goes wrong.

import { element } from "/assets/page.js";

const RETRY_MILLISECONDS = 1_000;

/** The page's lists, by the kind of track that their devices give. */
export const LISTS = { video: "camera", audio: "microphone" };

/**
 * Fills the lists.
 *
 * @param {{camera?: string, microphone?: string}=} chosen The devices to choose, in place of those that are chosen now. One that is not
 *   there gives way to the default one.
 */
export async function listDevices(chosen = {}) {
  if (!navigator.mediaDevices) return;
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [kind, id] of Object.entries(LISTS)) {
    const list = element(id);
    const wanted = chosen[id] ?? list.value;
    // Devices have no names before the first permission.
    const options = devices.filter((device) => device.kind === `${kind}input` && device.deviceId).map((device, index) =>
      new Option(device.label || `${id} ${index + 1}`, device.deviceId));
    list.replaceChildren(new Option(`Default ${id}`, ""), ...options);
    list.value = options.some((option) => option.value === wanted) ? wanted : "";
  }
}

/**
 * Opens devices. One that is busy is asked for once more: the page before, or another tab, may need a moment to let it go.
 *
 * @param {MediaStreamConstraints} wanted @returns {Promise<MediaStream>} @throws {DOMException} See reasonOf.
 */
export async function openDevices(wanted) {
  if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    if (!["AbortError", "NotReadableError"].includes(error.name)) throw error;
    await new Promise((resolve) => setTimeout(resolve, RETRY_MILLISECONDS));
    return navigator.mediaDevices.getUserMedia(wanted);
  }
}

/** The constraint for one device; none for the default one. */
export function exactly(deviceId) {
  return deviceId ? { deviceId: { exact: deviceId } } : {};
}

/** @param {MediaStream=} media */
export function stopTracks(media) {
  for (const track of media?.getTracks() ?? []) track.stop();
}

/** Why devices could not be opened, and what helps. */
export function reasonOf(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The camera and the microphone are not allowed: allow them in the browser's address bar.";
    case "NotFoundError":
      return "No camera or no microphone was found: connect one.";
    case "NotReadableError":
      return "The camera or the microphone is in use by another program: close that.";
    case "OverconstrainedError":
      return "The chosen device is not there any more: choose another.";
    case "SecurityError":
      return "Browsers give cameras to secure pages only: open this page by https, or on the server itself as localhost.";
    case "AbortError":
      return "The camera or the microphone did not start: take it out and plug it in again, or choose another.";
    default:
      return "The camera or the microphone could not be opened: choose another, or load the page again.";
  }
}

/** Whether an error's message is for people: those of the server and of our own code are, those that a browser throws have other names. */
export function isWorded(error) {
  return error?.name === "Error";
}

/**
 * What went wrong, in words that help. Those of the server and the SDK are for people; what a browser says of its own parts is not.
 *
 * @param {Error} error
 */
export function wordsOf(error) {
  if (isWorded(error)) return error.message;
  if (["NotAllowedError", "NotFoundError", "NotReadableError", "OverconstrainedError", "SecurityError"].includes(error?.name)) return reasonOf(error);
  return "The browser could not do this. Try once more; if that doesn't help, load the page again.";
}
