import { element, makeFragment, randomIdentifier, readFragment, showError, showPrivacy } from "/assets/page.js";
import { join } from "/sdk/sluice.js";

const WORDS = { idle: "Not in the room", connecting: "Connecting…", joined: "In the room", reconnecting: "Connection lost, connecting again…", left: "Left the room" };

let room = null;
let camera = null;
let screen = null;
let media = null;
const tiles = new Map();

element("room-id").value = readFragment().identifier || randomIdentifier();
element("name").value = localStorage.getItem("name") ?? "";
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter("publish");
});
element("watch-only").addEventListener("click", () => {
  if (element("form").reportValidity()) enter("view");
});
element("camera").addEventListener("change", () => changeDevice("video"));
element("microphone").addEventListener("change", () => changeDevice("audio"));
element("mute").addEventListener("click", () => toggle("audio", "mute"));
element("hide").addEventListener("click", () => toggle("video", "hide"));
element("share").addEventListener("click", share);
element("leave").addEventListener("click", () => room?.leave());
element("chat-toggle").addEventListener("click", () => {
  const isHidden = !element("chat").hidden;
  element("chat").hidden = isHidden;
  element("chat-toggle").setAttribute("aria-expanded", String(!isHidden));
});
element("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  say();
});
navigator.mediaDevices?.addEventListener("devicechange", listDevices);
showPreview();

/** The pages' tests look at it. */
globalThis.sluiceRoom = () => room;

async function showPreview() {
  try {
    media = await openDevices({ audio: true, video: true });
  } catch (error) {
    element("placeholder").textContent = `No camera: ${error.message}`;
    return;
  }
  element("preview").srcObject = media;
  element("placeholder").hidden = true;
  listDevices();
  showLevel();
}

function openDevices({ audio, video }) {
  const chosen = (id) => (element(id).value ? { deviceId: { exact: element(id).value } } : {});
  return navigator.mediaDevices.getUserMedia({
    audio: audio ? { echoCancellation: true, noiseSuppression: true, ...chosen("microphone") } : false,
    video: video ? { width: { ideal: 1280 }, height: { ideal: 720 }, ...chosen("camera") } : false,
  });
}

async function listDevices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  for (const [id, kind, name] of [["camera", "videoinput", "Camera"], ["microphone", "audioinput", "Microphone"]]) {
    const list = element(id);
    const before = list.value;
    list.replaceChildren(new Option(`Default ${name.toLowerCase()}`, ""));
    devices.filter((device) => device.kind === kind && device.deviceId).forEach((device, index) => {
      list.append(new Option(device.label || `${name} ${index + 1}`, device.deviceId));
    });
    list.value = before;
  }
}

/** Shows how loud the microphone is until the room is entered. */
function showLevel() {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(media).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    if (room) {
      clearInterval(timer);
      context.close();
      return;
    }
    analyser.getFloatTimeDomainData(samples);
    element("level").value = Math.min(1, Math.max(...samples.map(Math.abs)) * 2);
  }, 100);
}

async function changeDevice(kind) {
  if (!media) return showPreview();
  try {
    const track = (await openDevices({ [kind]: true })).getTracks()[0];
    if (camera) {
      await camera.replaceTrack(track);
    } else {
      for (const old of media.getTracks().filter((old) => old.kind === kind)) {
        media.removeTrack(old);
        old.stop();
      }
      media.addTrack(track);
    }
  } catch (error) {
    showError(`This device can't be used: ${error.message}`);
  }
}

async function enter(role) {
  showError("");
  element("join").disabled = true;
  const id = element("room-id").value;
  const name = element("name").value;
  localStorage.setItem("name", name);
  history.replaceState(null, "", makeFragment({ ...readFragment(), identifier: id }));
  showState("connecting");
  try {
    room = await join({ room: id, name, role, token: element("token").value || undefined });
  } catch (error) {
    showState("idle");
    showError(error.message);
    element("join").disabled = false;
    return;
  }
  showPrivacy(room.privacy.mode);
  showState("joined");
  room.addEventListener("state", ({ detail }) => showState(detail.state));
  room.addEventListener("left", ({ detail }) => left(detail));
  room.addEventListener("peers", showPeers);
  for (const type of ["stream-added", "stream-updated"]) room.addEventListener(type, ({ detail }) => showStream(detail));
  room.addEventListener("stream-removed", ({ detail }) => removeTile(detail.id));
  room.addEventListener("speakers", ({ detail }) => showSpeakers(detail));
  room.addEventListener("message", ({ detail }) => showMessage(nameOf(detail.from), detail.data));
  room.addEventListener("muted-by-host", () => camera?.setMuted("audio", true).then(() => press("mute", true)));
  room.addEventListener("error", ({ detail }) => showError(detail.message));
  element("before").hidden = true;
  element("inside").hidden = false;
  for (const control of ["mute", "hide", "share"]) element(control).hidden = role === "view";
  element("link-join").textContent = element("link-join").href = `${location.origin}/room#${id}`;
  element("link-whip").textContent = `${location.origin}/${id}/obs/whip`;
  element("link-whep").textContent = `${location.origin}/${id}/obs/whep`;
  for (const stream of room.streams.values()) showStream(stream);
  showPeers();
  if (role === "publish" && media) {
    try {
      camera = await room.publish(media, { kind: "camera" });
      showTile(camera.id, "You", camera.media, { own: true, kind: "camera", live: true });
    } catch (error) {
      showError(error.message);
    }
  }
}

function showState(state) {
  element("state").dataset.state = state;
  element("state").textContent = WORDS[state];
}

function left({ reason, error }) {
  for (const id of [...tiles.keys()]) removeTile(id);
  room = null;
  camera = null;
  screen?.media.getTracks().forEach((track) => track.stop());
  screen = null;
  for (const control of ["mute", "hide", "share"]) press(control, false);
  element("before").hidden = false;
  element("inside").hidden = true;
  element("join").disabled = false;
  showError(error?.message ?? reason);
}

async function toggle(kind, button) {
  if (!camera) return;
  const isMuted = !camera.muted.includes(kind);
  press(button, isMuted);
  await camera.setMuted(kind, isMuted).catch((error) => showError(error.message));
}

function press(button, isPressed) {
  element(button).setAttribute("aria-pressed", String(isPressed));
}

async function share() {
  if (screen) {
    const stream = screen;
    screen = null;
    press("share", false);
    removeTile(stream.id);
    await stream.stop();
    return;
  }
  try {
    const display = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true });
    screen = await room.publish(display, { kind: "screen" });
    press("share", true);
    showTile(screen.id, "Your screen", display, { own: true, kind: "screen", live: true });
    display.getVideoTracks()[0].addEventListener("ended", () => screen && share());
  } catch (error) {
    showError(`The screen can't be shared: ${error.message}`);
  }
}

// Tiles

function nameOf(peer) {
  return room?.peers.get(peer)?.name || (peer ? "Guest" : "Stream");
}

function showStream(stream) {
  const muted = stream.muted?.includes("audio") ? " (muted)" : "";
  const what = stream.kind === "screen" ? "'s screen" : "";
  showTile(stream.id, `${nameOf(stream.peer)}${what}${muted}`, stream.media, { own: false, kind: stream.kind ?? "camera", live: stream.live });
}

function showTile(id, name, stream, { own, kind, live }) {
  let tile = tiles.get(id);
  if (!tile) {
    tile = document.createElement("figure");
    tile.className = "tile";
    const video = document.createElement("video");
    video.autoplay = true;
    video.playsInline = true;
    video.muted = own;
    tile.append(video, document.createElement("figcaption"));
    tiles.set(id, tile);
    element("tiles").append(tile);
    arrange();
  }
  Object.assign(tile.dataset, { own, kind, live, stream: id });
  const video = tile.querySelector("video");
  if (video.srcObject !== stream) video.srcObject = stream;
  video.setAttribute("aria-label", name);
  tile.querySelector("figcaption").textContent = live ? name : `${name}: connecting again…`;
}

function removeTile(id) {
  tiles.get(id)?.remove();
  tiles.delete(id);
  arrange();
}

/** As square a grid as the number of tiles allows. */
function arrange() {
  const columns = Math.max(1, Math.ceil(Math.sqrt(tiles.size)));
  element("tiles").style.setProperty("--columns", String(columns));
}

function showSpeakers(speakers) {
  const speaking = new Set(speakers.map((speaker) => speaker.stream));
  for (const [id, tile] of tiles) tile.dataset.speaking = String(speaking.has(id));
}

function showPeers() {
  if (!room) return;
  const peers = room.peers.size + (room.rights.includes("publish") ? 1 : 0);
  element("count").textContent = `${peers} in the room${room.viewerCount ? `, ${room.viewerCount} watching` : ""}`;
  for (const stream of room.streams.values()) showStream(stream);
}

// Chat

async function say() {
  const text = element("chat-text").value.trim();
  if (!text) return;
  element("chat-text").value = "";
  try {
    await room.send({ text });
    showMessage("You", { text });
  } catch (error) {
    showError(error.message);
  }
}

function showMessage(from, data) {
  if (typeof data?.text !== "string") return;
  const item = document.createElement("li");
  const name = document.createElement("strong");
  name.textContent = `${from}: `;
  item.append(name, data.text.slice(0, 2000));
  element("messages").append(item);
  item.scrollIntoView({ block: "nearest" });
  if (element("chat").hidden) element("chat-toggle").click();
}
