import { exactly, isWorded, LISTS, listDevices, openDevices, reasonOf, stopTracks } from "/assets/capture.js";
import {
  element, makeFragment, randomIdentifier, readFragment, refuseDamaged, showError, showFigures, showPrivacy, showState,
} from "/assets/page.js";
import { Session } from "/assets/session.js";
import { addSender, Encryption, MUSIC } from "/sdk/sluice.js";

const WORDS = {
  idle: "Not publishing",
  connecting: "Connecting…",
  waiting: "Waiting.",
  live: "Live",
  reconnecting: "Connection lost, connecting again…",
  failed: "Stopped",
};
// More than enough for a camera; the congestion control finds what the path takes.
const MAXIMUM_BITRATE = 4_000_000;

let session = null;
// Counts what was begun: what is awaited for something earlier comes too late, and is given back.
let run = 0;
let media = null;
let encryption = null;
let stopFigures = () => {};

const address = readFragment();
element("stream-id").value = address.identifier || randomIdentifier();
element("key").value = address.key;
refuseDamaged(address, "start");

element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
element("stop").addEventListener("click", stop);
element("mute").addEventListener("click", () => toggle("mute", media?.getAudioTracks() ?? []));
element("hide").addEventListener("click", () => toggle("hide", media?.getVideoTracks() ?? []));
element("copy").addEventListener("click", copyAddress);
element("camera").addEventListener("change", () => changeDevices());
element("microphone").addEventListener("change", () => changeDevices());
navigator.mediaDevices?.addEventListener("devicechange", () => listDevices());
listDevices();

async function start() {
  const mine = ++run;
  const identifier = element("stream-id").value;
  const key = element("key").value;
  showError("");
  setRunning(true);
  try {
    const made = key ? await Encryption.create({ room: identifier.split("/")[0], passphrase: key }) : null;
    if (mine !== run) {
      made?.close();
      return;
    }
    encryption = made;
    const opened = await openChosen();
    if (mine !== run) {
      stopTracks(opened);
      return;
    }
    take(opened);
  } catch (error) {
    if (mine !== run) return;
    release();
    showState("failed", WORDS, isWorded(error) ? error.message : `${reasonOf(error)} Then press Start.`);
    return;
  }
  listDevices();
  const fragment = makeFragment({ identifier, key });
  history.replaceState(null, "", fragment);
  element("viewer-address").value = `${location.origin}/watch${fragment}`;
  session = new Session(`${location.origin}/${identifier}/whip`, element("token").value, {
    prepare: addTracks, encryption, isMusic: isMusic(),
  });
  session.addEventListener("state", ({ detail }) => {
    showState(detail.state, WORDS, detail.message);
    element("share").hidden = detail.state !== "live" && detail.state !== "reconnecting";
    if (detail.state === "failed") release();
  });
  session.addEventListener("privacy", ({ detail }) => showPrivacy(detail));
  stopFigures = showFigures(session, "send");
  session.start();
}

function stop() {
  if (session) session.stop();
  else showState("idle", WORDS);
  release();
}

function release() {
  run += 1;
  session = null;
  encryption?.close();
  encryption = null;
  stopFigures();
  stopTracks(media);
  media = null;
  element("preview").srcObject = null;
  element("placeholder").hidden = false;
  element("figures").hidden = true;
  element("share").hidden = true;
  setRunning(false);
}

function openChosen() {
  const [width, height] = element("size").value.split("x").map(Number);
  return openDevices({
    video: { ...exactly(element("camera").value), width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } },
    audio: { ...exactly(element("microphone").value), ...(isMusic() ? MUSIC : {}) },
  });
}

/** Goes on with these tracks, muted where the buttons say so. */
function take(opened) {
  stopTracks(media);
  media = opened;
  applyToggle("mute", media.getAudioTracks());
  applyToggle("hide", media.getVideoTracks());
  for (const track of media.getTracks()) track.addEventListener("ended", () => lose(track));
  element("preview").srcObject = media;
  element("placeholder").hidden = true;
}

/** Each sender gets its track when all else of it is in place, its encryption first of all. */
async function addTracks(connection) {
  const kinds = media.getTracks().map((track) => track.kind);
  const senders = kinds.map((kind) => {
    const isVideo = kind === "video";
    const { sender } = addSender(connection, kind, {
      encryption,
      codec: isVideo ? element("codec").value : undefined,
      music: isMusic(),
      streams: [media],
      ...(isVideo ? { sendEncodings: [{ maxBitrate: MAXIMUM_BITRATE }] } : {}),
    });
    return { kind, sender };
  });
  for (const { kind, sender } of senders) {
    let track;
    do {
      // Another device may be chosen meanwhile.
      track = trackOf(kind);
      await sender.replaceTrack(track);
    } while (track !== trackOf(kind));
  }
}

function trackOf(kind) {
  return media?.getTracks().find((track) => track.kind === kind) ?? null;
}

function isMusic() {
  return element("sound").value === "music";
}

/** @param {string=} lost Says that a device is gone, where this one is to take its place. */
async function changeDevices(lost = "") {
  if (!session) return;
  const mine = ++run;
  let opened;
  try {
    opened = await openChosen();
  } catch (error) {
    if (mine === run) showError(`${lost} ${reasonOf(error)}`.trim());
    return;
  }
  if (mine !== run) {
    stopTracks(opened);
    return;
  }
  take(opened);
  showError(lost && `${lost} The default one is used now.`);
  for (const { sender, receiver } of session.connection?.getTransceivers() ?? []) {
    const track = trackOf(receiver.track.kind);
    // A connection that has closed meanwhile is made anew, with what is open then.
    if (track) sender.replaceTrack(track).catch(() => {});
  }
}

/** A device that was unplugged, or is not allowed any more, gives way to the default one, where there is one. */
function lose(track) {
  if (!media?.getTracks().includes(track)) return;
  const id = LISTS[track.kind];
  element(id).value = "";
  changeDevices(`The ${id} is gone.`);
}

function toggle(id, tracks) {
  const button = element(id);
  button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
  applyToggle(id, tracks);
}

function applyToggle(id, tracks) {
  const isOff = element(id).getAttribute("aria-pressed") === "true";
  for (const track of tracks) track.enabled = !isOff;
}

async function copyAddress() {
  try {
    await navigator.clipboard.writeText(element("viewer-address").value);
    element("copied").textContent = "Copied.";
  } catch {
    element("viewer-address").select();
    element("copied").textContent = "Press Ctrl+C to copy.";
  }
}

function setRunning(isRunning) {
  element("start").disabled = isRunning;
  element("stream-id").disabled = isRunning;
  element("codec").disabled = isRunning;
  element("size").disabled = isRunning;
  element("sound").disabled = isRunning;
  for (const id of ["stop", "mute", "hide"]) element(id).disabled = !isRunning;
}
