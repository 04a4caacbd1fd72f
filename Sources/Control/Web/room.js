// The room page: joins, and ties what happens in the room to what the page shows.

import { isWorded, LISTS, listDevices, reasonOf, wordsOf } from "/assets/capture.js";
import { clearChat, showMessage, startChat } from "/assets/chat.js";
import { Devices } from "/assets/devices.js";
import { showExpectedPrivacy } from "/assets/expectation.js";
import { showLinks } from "/assets/links.js";
import { Meters } from "/assets/meters.js";
import { announce, announceChanges, Recorders } from "/assets/notices.js";
import { OwnStreams, press } from "/assets/own.js";
import { element, makeFragment, randomIdentifier, readFragment, refuseDamaged, showError, showPrivacy } from "/assets/page.js";
import { ask, offerChat, setUnread, showPanel, startPanels } from "/assets/panels.js";
import { RecordButton } from "/assets/record-button.js";
import { forget, forgetStay, keepStay, lastStay, remember, settings } from "/assets/settings.js";
import { Tiles } from "/assets/tiles.js";
import { join } from "/sdk/sluice.js";

const WORDS = { idle: "Not in the room", connecting: "Connecting…", joined: "In the room", reconnecting: "Connection lost, connecting again…", left: "Left the room" };

let room = null;
let known = { peers: new Map(), viewers: 0 };
let isLocked = false;
// Before the ids of tiles of those who send nothing: no stream's id has it.
const PERSON = "person:";
const getRoom = () => room;
const devices = new Devices();
const recorders = new Recorders();
const tiles = new Tiles(element("tiles"), element("without-place"), askAboutPeer);
const own = new OwnStreams(tiles, devices, getRoom);
const meters = new Meters(tiles, getRoom);
const recordButton = new RecordButton(tiles, recorders, getRoom);

devices.lost = loseDevice;
tiles.sized = (id, height) => room?.streams.has(id) && room.setSize(id, height);

/** The pages' tests look at it. */
globalThis.sluiceRoom = getRoom;

start();

function start() {
  const address = readFragment();
  const { identifier, key, isViewOnly } = address;
  element("room-id").value = identifier || randomIdentifier();
  element("key").value = key;
  element("access").open = Boolean(key);
  showSettings();
  showExpectedPrivacy(Boolean(key));
  listen();
  if (isViewOnly) {
    element("before-title").textContent = "Watch the room";
    element("watch-only").textContent = "Watch";
    element("watch-only").classList.add("primary");
    document.body.classList.add("views");
  }
  const isDamaged = refuseDamaged(address, "join", "watch-only");
  if (!isViewOnly && !isDamaged) openDevices();
}

function listen() {
  const onClick = (actions) => {
    for (const [id, action] of Object.entries(actions)) element(id).addEventListener("click", action);
  };
  onClick({
    "watch-only": () => element("form").reportValidity() && enter("view"),
    mute: () => own.toggle("audio"),
    hide: () => own.toggle("video"),
    share: () => own.share(),
    leave,
    layout: () => chooseLayout(tiles.layout === "grid" ? "speaker" : "grid"),
    figures: () => meters.toggle(),
    lock: () => act(isLocked ? "unlock" : "lock"),
    end: endForAll,
    invite: () => {
      showPanel("more");
      element("link-join").scrollIntoView({ block: "center" });
      element("link-join").select();
    },
    forget: forgetSettings,
  });
  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    enter(document.body.classList.contains("views") ? "view" : "publish");
  });
  element("key").addEventListener("input", () => showExpectedPrivacy(Boolean(element("key").value)));
  element("name").addEventListener("change", () => remember({ name: element("name").value }));
  element("camera").addEventListener("change", () => chooseDevice("video"));
  element("microphone").addEventListener("change", () => chooseDevice("audio"));
  for (const [id, name] of [["joins-muted", "joinsMuted"], ["joins-hidden", "joinsHidden"], ["shortcuts", "shortcuts"]]) {
    element(id).addEventListener("change", () => {
      remember({ [name]: element(id).checked });
      if (!room) devices.showMuted();
    });
  }
  navigator.mediaDevices?.addEventListener("devicechange", () => devices.media && listDevices());
  startPanels(() => Boolean(room) && settings.shortcuts);
  startChat((text) => room.send({ text }), (error) => showError(wordsOf(error)));
  document.querySelector("header").addEventListener("click", askBeforeLeaving);
}

/** A link of the page's own head would end a call without a word. */
async function askBeforeLeaving(event) {
  const link = event.target.closest("a");
  const opensElsewhere = event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey;
  if (!room || !link || opensElsewhere) return;
  event.preventDefault();
  const action = await ask("Leave the room?", [{ value: "leave", label: "Leave the room" }]);
  if (!action) return;
  leave();
  location.assign(link.href);
}

// Before the room

async function openDevices() {
  await devices.open();
  devices.showLevel(() => Boolean(room));
}

function showSettings() {
  element("name").value = settings.name;
  element("camera").value = settings.camera;
  element("microphone").value = settings.microphone;
  element("joins-muted").checked = settings.joinsMuted;
  element("joins-hidden").checked = settings.joinsHidden;
  element("shortcuts").checked = settings.shortcuts;
  setLayout(settings.layout);
}

function forgetSettings() {
  forget();
  showSettings();
  element("forgotten").textContent = "Forgotten: this browser stores nothing of this page any more.";
}

async function chooseDevice(kind) {
  const id = LISTS[kind];
  remember({ [id]: element(id).value });
  showError("");
  try {
    if (devices.media) {
      await own.changeDevice(kind);
      if (!room) devices.showMuted();
    } else {
      await openDevices();
      await own.publishCamera();
    }
  } catch (error) {
    showError(isWorded(error) ? error.message : reasonOf(error));
  }
}

/** A device that was unplugged, or is not allowed any more, gives way to the default one, where there is one. */
async function loseDevice(kind) {
  const id = LISTS[kind];
  element(id).value = "";
  try {
    await own.changeDevice(kind);
    const tell = room ? announce : showError;
    tell(`The ${id} is gone. The default one is used now.`);
  } catch (error) {
    own.silence(kind);
    showError(`The ${id} is gone. ${reasonOf(error)}`);
  }
}

async function enter(role) {
  showError("");
  for (const id of ["join", "watch-only"]) element(id).disabled = true;
  const identifier = element("room-id").value;
  const key = element("key").value;
  const name = element("name").value;
  if (name) remember({ name });
  history.replaceState(null, "", makeFragment({ ...readFragment(), identifier, key }));
  showState("connecting");
  let joined;
  try {
    joined = await join({
      room: identifier,
      name,
      role,
      token: element("token").value || undefined,
      resume: lastStay(),
      ...(key ? { privacy: "e2ee", encryption: { passphrase: key } } : {}),
    });
  } catch (error) {
    showState("idle");
    showError(wordsOf(error));
    for (const id of ["join", "watch-only"]) element(id).disabled = false;
    return;
  }
  room = joined;
  keepStay(room.resumption);
  // Who only watches has no camera on.
  if (role === "view") devices.close();
  follow(room);
  showInside(role, identifier, key);
  if (role === "publish") {
    await devices.ready;
    // The room may have been left while the browser asked for the camera, and joined again.
    if (room === joined) await own.publishCamera();
  }
}

function follow(room) {
  const on = (type, action) => room.addEventListener(type, ({ detail }) => action(detail));
  on("state", ({ state }) => {
    if (state === "left") return;
    showState(state);
    // After a restart of the server others may be the hosts.
    if (state !== "joined") return;
    keepStay(room.resumption);
    showRights();
  });
  on("left", left);
  on("peers", showPeers);
  on("stream-added", showStream);
  on("stream-updated", showStream);
  on("stream-removed", removeStream);
  on("speakers", (speakers) => tiles.setSpeaking(new Set(speakers.map((speaker) => speaker.stream))));
  on("quality", (streams) => meters.hear(streams));
  on("message", hear);
  on("muted-by-host", mutedByHost);
  on("room-updated", ({ locked }) => showLocked(locked));
  on("error", (error) => showError(wordsOf(error)));
}

/** What we may do now, which a server that was restarted may see otherwise than before. */
function showRights() {
  if (element("inside").hidden) return;
  const wasHost = !element("host").hidden;
  const isHost = room.rights.includes("host");
  element("host").hidden = !isHost;
  showLocked(room.locked);
  for (const stream of room.streams.values()) showStream(stream);
  showPeople();
  if (wasHost && !isHost) announce("The server was started again: you are not the host any more.");
  if (!wasHost && isHost) announce("The server was started again: you are the host now.");
}

function showInside(role, identifier, key) {
  showPrivacy(room.privacy.mode);
  element("chat-note").textContent = room.privacy.mode === "e2ee"
    ? "Messages are encrypted with the room's key. The server keeps none."
    : "The server can read the messages that it passes on. It keeps none.";
  showState("joined");
  known = { peers: new Map(room.peers), viewers: room.viewerCount };
  document.body.classList.add("in-room");
  document.body.classList.toggle("views", role === "view");
  element("before").hidden = true;
  element("inside").hidden = false;
  element("host").hidden = !room.rights.includes("host");
  element("settings-inside").append(element("settings"), element("remembered"));
  // Who only watches has nothing of their own to record.
  element("record-what").querySelector("[value=own]").disabled = role === "view";
  showLinks(element("links"), identifier, key);
  showLocked(room.locked);
  setLayout(settings.layout);
  for (const stream of room.streams.values()) showStream(stream);
  showPeers();
  element("inside-title").focus();
}

function showState(state) {
  element("state").dataset.state = state;
  element("state").textContent = WORDS[state];
}

/** Nobody who leaves is seen a moment longer: the file of a recording is finished after that. */
function leave() {
  recordButton.stop();
  room?.leave();
  forgetStay();
}

async function left({ reason, error }) {
  // The stay is the other tab's now: joining again here makes a new stay, and throws nobody out.
  if (error?.code === "resumed-elsewhere") forgetStay();
  recordButton.stop();
  room = null;
  own.end();
  tiles.clear();
  meters.clear();
  recorders.clear();
  clearChat();
  showPanel(null);
  setUnread(0);
  document.body.classList.remove("in-room");
  document.body.classList.toggle("views", readFragment().isViewOnly);
  element("settings-before").append(element("settings"));
  element("remembered-before").append(element("remembered"));
  element("before").hidden = false;
  element("inside").hidden = true;
  for (const id of ["join", "watch-only"]) element(id).disabled = false;
  element(readFragment().isViewOnly ? "watch-only" : "join").focus();
  showExpectedPrivacy(Boolean(element("key").value));
  showState("left");
  showError(error?.message ?? reason);
  if (readFragment().isViewOnly) return;
  if (!devices.media) {
    await openDevices();
  } else {
    devices.showMuted();
    devices.showLevel(() => Boolean(room));
  }
}

// Others

function nameOf(peer) {
  return room?.peers.get(peer)?.name || (peer ? "Guest" : "Stream");
}

function showStream(stream) {
  const { id, peer, kind = "camera", live, muted = [], media, undecryptable } = stream;
  const isNew = !tiles.video(id);
  const hasMenu = Boolean(peer) && room.rights.includes("host");
  tiles.show({ id, peer, name: nameOf(peer) + (kind === "screen" ? "'s screen" : ""), media, own: false, kind, live, muted, undecryptable, hasMenu });
  // A screen is wanted large; whoever prefers the grid presses the button again.
  if (isNew && kind === "screen") setLayout("speaker");
  showPeople();
  showAlone();
}

function removeStream({ id, kind }) {
  tiles.remove(id);
  meters.forget(id);
  showPeople();
  const screens = tiles.contents.filter((content) => content.kind === "screen" && !content.own);
  if (kind === "screen" && screens.length === 0) setLayout(settings.layout);
  showAlone();
}

function showPeers() {
  if (!room) return;
  announceChanges(known.peers, room.peers, (peer) => peer.name || "A guest");
  for (const peer of known.peers.keys()) if (!room.peers.has(peer)) recorders.note(peer, "", false);
  const isMore = room.peers.size > known.peers.size || room.viewerCount > known.viewers;
  known = { peers: new Map(room.peers), viewers: room.viewerCount };
  showCount();
  for (const stream of room.streams.values()) showStream(stream);
  showPeople();
  showAlone();
  if (isMore) recordButton.tell();
}

/** Who sends nothing has a tile of their own, by which they are seen to be there, and a host can remove them. */
function showPeople() {
  const sending = new Set([...room.streams.values()].map((stream) => stream.peer));
  const wanted = new Map([...room.peers.keys()].filter((peer) => !sending.has(peer)).map((peer) => [`${PERSON}${peer}`, peer]));
  for (const { id, kind } of tiles.contents) if (kind === "person" && !wanted.has(id)) tiles.remove(id);
  for (const [id, peer] of wanted) {
    const media = tiles.contents.find((content) => content.id === id)?.media ?? new MediaStream();
    const hasMenu = room.rights.includes("host");
    tiles.show({ id, peer, name: nameOf(peer), media, own: false, kind: "person", live: true, muted: ["audio", "video"], hasMenu });
  }
}

function showCount() {
  const peers = room.peers.size + (room.rights.includes("publish") ? 1 : 0);
  const viewers = room.viewerCount ? `, ${room.viewerCount} watching` : "";
  element("count").textContent = `${peers} in the room${viewers}${isLocked ? ", locked" : ""}`;
}

function showAlone() {
  element("alone").hidden = !room || room.streams.size > 0 || room.peers.size > 0;
}

function hear({ from, data }) {
  const name = room.peers.get(from) ? nameOf(from) : "A viewer";
  if (typeof data?.recording === "boolean") recorders.note(from, name, data.recording);
  if (typeof data?.text !== "string") return;
  showMessage(name, data.text);
  // Screen readers read out what is added to a list that is shown, and that only.
  if (!element("chat").hidden) return;
  announce(`${name}: ${data.text.slice(0, 120)}`);
  offerChat();
}

// The host

function mutedByHost({ by, stream, muted }) {
  if (muted.includes("audio") && own.silence("audio", stream)) announce(`${nameOf(by)} has muted you. Press Mute to speak again.`);
  if (muted.includes("video") && own.silence("video", stream)) announce(`${nameOf(by)} has switched your picture off.`);
}

async function act(action, peer, what) {
  try {
    await room.act(action, peer, what);
  } catch (error) {
    showError(wordsOf(error));
  }
}

async function askAboutPeer({ id, peer, name, kind }) {
  const action = await ask(name, [
    ...(kind === "person" ? [] : [
      { value: "mute", label: "Mute" },
      { value: "hide", label: kind === "screen" ? "End their screen" : "Switch their camera off" },
    ]),
    { value: "remove", label: "Remove from the room" },
  ]);
  if (!action || !room) return;
  if (action === "hide") await act("mute", peer, { stream: id, muted: ["video"] });
  else await act(action, peer);
}

async function endForAll() {
  const action = await ask("End the room for everybody?", [{ value: "end", label: "End it" }]);
  if (action && room) await act(action);
}

function showLocked(locked) {
  isLocked = locked;
  press("lock", locked);
  showCount();
}

// Layout

function chooseLayout(layout) {
  remember({ layout });
  setLayout(layout);
}

function setLayout(layout) {
  tiles.setLayout(layout === "speaker" ? "speaker" : "grid");
  press("layout", tiles.layout === "speaker");
}
