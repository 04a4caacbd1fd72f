import {
  element, makeFragment, randomIdentifier, readFragment, refuseDamaged, showError, showFigures, showPrivacy, showState,
} from "/assets/page.js";
import { Session } from "/assets/session.js";
import { Encryption } from "/sdk/sluice.js";

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
element("camera").addEventListener("change", changeDevices);
element("microphone").addEventListener("change", changeDevices);
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
listDevices();

async function start() {
  showError("");
  setRunning(true);
  try {
    media = await openDevices();
  } catch (error) {
    setRunning(false);
    showState("failed", WORDS, deviceError(error));
    return;
  }
  showPreview();
  listDevices();
  const identifier = element("stream-id").value;
  const key = element("key").value;
  const fragment = makeFragment({ identifier, key });
  history.replaceState(null, "", fragment);
  element("viewer-address").value = `${location.origin}/watch${fragment}`;
  try {
    encryption = key ? await Encryption.create({ room: identifier.split("/")[0], passphrase: key }) : null;
  } catch (error) {
    release();
    showState("failed", WORDS, error.message);
    return;
  }
  session = new Session(`${location.origin}/${identifier}/whip`, element("token").value, encryption);
  session.addEventListener("state", ({ detail }) => {
    showState(detail.state, WORDS, detail.message);
    element("share").hidden = detail.state !== "live" && detail.state !== "reconnecting";
    if (detail.state === "failed") release();
  });
  session.addEventListener("privacy", ({ detail }) => showPrivacy(detail));
  session.addEventListener("connection", ({ detail }) => addTracks(detail));
  stopFigures = showFigures(session, "send");
  session.start();
}

function stop() {
  session?.stop();
  release();
}

function release() {
  session = null;
  encryption?.close();
  encryption = null;
  stopFigures();
  for (const track of media?.getTracks() ?? []) track.stop();
  media = null;
  element("preview").srcObject = null;
  element("placeholder").hidden = false;
  element("figures").hidden = true;
  element("share").hidden = true;
  setRunning(false);
}

function openDevices() {
  if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
  const [width, height] = element("size").value.split("x").map(Number);
  const chosen = (id) => (element(id).value ? { deviceId: { exact: element(id).value } } : {});
  return navigator.mediaDevices.getUserMedia({
    video: { ...chosen("camera"), width: { ideal: width }, height: { ideal: height }, frameRate: { ideal: 30 } },
    audio: chosen("microphone"),
  });
}

function addTracks(connection) {
  for (const track of media.getTracks()) {
    const encoding = track.kind === "video" ? { sendEncodings: [{ maxBitrate: MAXIMUM_BITRATE }] } : {};
    const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [media], ...encoding });
    const codecs = encryption ? Encryption.codecs(track.kind) : RTCRtpReceiver.getCapabilities(track.kind).codecs;
    transceiver.setCodecPreferences?.(track.kind === "video" ? preferred(codecs) : codecs);
    encryption?.protect(transceiver.sender);
  }
}

/** Puts the chosen codec first and leaves the others behind it, with what repairs them. */
function preferred(codecs) {
  const name = element("codec").value;
  const isChosen = (codec) => codec.mimeType.toLowerCase() === `video/${name.toLowerCase()}`;
  return name ? [...codecs.filter(isChosen), ...codecs.filter((codec) => !isChosen(codec))] : codecs;
}

async function changeDevices() {
  if (!media || !session) return;
  try {
    const fresh = await openDevices();
    for (const sender of session.connection?.getSenders() ?? []) {
      const track = fresh.getTracks().find((candidate) => candidate.kind === sender.track?.kind);
      if (track) await sender.replaceTrack(track);
    }
    for (const track of media.getTracks()) track.stop();
    media = fresh;
    applyToggle("mute", media.getAudioTracks());
    applyToggle("hide", media.getVideoTracks());
    showPreview();
  } catch (error) {
    showError(deviceError(error));
  }
}

function showPreview() {
  element("preview").srcObject = media;
  element("placeholder").hidden = true;
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

async function listDevices() {
  if (!navigator.mediaDevices) return;
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind, fallback] of [["camera", "videoinput", "Camera"], ["microphone", "audioinput", "Microphone"]]) {
    const list = element(id);
    const chosen = list.value;
    // Devices have no names before the first permission.
    const options = devices.filter((device) => device.kind === kind && device.deviceId).map((device, index) =>
      new Option(device.label || `${fallback} ${index + 1}`, device.deviceId));
    list.replaceChildren(new Option(`Default ${fallback.toLowerCase()}`, ""), ...options);
    list.value = options.some((option) => option.value === chosen) ? chosen : "";
  }
}

function deviceError(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The browser was not allowed to use the camera and the microphone. Allow it in the address bar, then press Start.";
    case "NotFoundError":
      return "No camera or no microphone was found. Connect one, then press Start.";
    case "NotReadableError":
      return "The camera or the microphone is in use by another program. Close that, then press Start.";
    case "OverconstrainedError":
      return "The chosen device is not there any more. Choose another, then press Start.";
    case "SecurityError":
      return "Browsers give cameras to secure pages only: open this page by https, or on the server itself as localhost.";
    default:
      return `The camera could not be opened: ${error.message || error.name}`;
  }
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
  for (const id of ["stop", "mute", "hide"]) element(id).disabled = !isRunning;
}
