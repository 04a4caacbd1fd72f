import { wordsOf } from "/assets/capture.js";
import {
  element, makeFragment, readFragment, refuseDamaged, showFigures, showPrivacy, showState,
} from "/assets/page.js";
import { Session } from "/assets/session.js";
import { Encryption } from "/sdk/sluice.js";

const WORDS = {
  idle: "Not watching",
  connecting: "Connecting…",
  waiting: "Waiting for the publisher.",
  live: "Live",
  reconnecting: "Connection lost, connecting again…",
  failed: "Stopped",
};

const video = element("video");
let session = null;
// Counts what was begun: what is awaited for something earlier comes too late, and is given back.
let run = 0;
let encryption = null;
let stopFigures = () => {};

const address = readFragment();
element("stream-id").value = address.identifier;
element("key").value = address.key;
element("form").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
element("stop").addEventListener("click", () => {
  if (session) session.stop();
  else showState("idle", WORDS);
  release();
});
element("unmute").addEventListener("click", () => {
  video.muted = false;
  element("unmute").hidden = true;
});
video.addEventListener("volumechange", () => {
  if (!video.muted) element("unmute").hidden = true;
});
video.addEventListener("loadeddata", () => (element("placeholder").hidden = true));

// Whoever was given an address wants to watch at once.
if (!refuseDamaged(address, "start") && address.identifier) start();

async function start() {
  const mine = ++run;
  const identifier = element("stream-id").value;
  const key = element("key").value;
  history.replaceState(null, "", makeFragment({ identifier, key }));
  setRunning(true);
  try {
    const made = key ? await Encryption.create({ room: identifier.split("/")[0], passphrase: key }) : null;
    if (mine !== run) {
      made?.close();
      return;
    }
    encryption = made;
  } catch (error) {
    if (mine !== run) return;
    release();
    showState("failed", WORDS, wordsOf(error));
    return;
  }
  encryption?.addEventListener("readable", ({ detail }) => (element("sealed").hidden = detail.readable));
  session = new Session(`${location.origin}/${identifier}/whep`, element("token").value, { prepare: receive, encryption });
  session.addEventListener("state", ({ detail }) => {
    showState(detail.state, WORDS, detail.message && detail.state !== "waiting" ? detail.message : "");
    element("unmute").hidden = !(detail.state === "live" && video.muted);
    if (detail.state === "failed") release();
  });
  session.addEventListener("privacy", ({ detail }) => showPrivacy(detail));
  stopFigures = showFigures(session, "receive");
  session.start();
}

function receive(connection) {
  const stream = new MediaStream();
  for (const kind of ["video", "audio"]) {
    const { receiver } = connection.addTransceiver(kind, { direction: "recvonly" });
    encryption?.reveal(receiver);
  }
  connection.addEventListener("track", ({ track }) => {
    stream.addTrack(track);
    // The last picture of the session before stays until there is one of this session.
    if (video.srcObject !== stream) video.srcObject = stream;
    video.play().catch(() => {});
  });
}

function release() {
  run += 1;
  session = null;
  encryption?.close();
  encryption = null;
  element("sealed").hidden = true;
  stopFigures();
  video.srcObject = null;
  element("placeholder").hidden = false;
  element("unmute").hidden = true;
  element("figures").hidden = true;
  setRunning(false);
}

function setRunning(isRunning) {
  element("start").disabled = isRunning;
  element("stream-id").disabled = isRunning;
  element("stop").disabled = !isRunning;
}
