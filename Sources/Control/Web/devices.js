// The camera and the microphone: opened for the preview, kept for the room.

import { element } from "/assets/page.js";
import { remember, settings } from "/assets/settings.js";

const KINDS = { video: "camera", audio: "microphone" };

export class Devices {
  /** @type {MediaStream|null} What is open. */ media = null;
  /** Settled once the devices were asked for. */ ready = Promise.resolve();

  /** Asks for both devices, or for the one that there is, and shows what comes of it. */
  open() {
    this.ready = this.#open();
    return this.ready;
  }

  /** Lets the devices go. */
  close() {
    for (const track of this.media?.getTracks() ?? []) track.stop();
    this.media = null;
    element("preview").srcObject = null;
    element("placeholder").hidden = false;
  }

  async #open() {
    try {
      this.media = await openAny();
    } catch (error) {
      element("placeholder").textContent = reasonOf(error);
      return;
    }
    element("preview").srcObject = this.media;
    const hasPicture = this.media.getVideoTracks().length > 0;
    element("placeholder").hidden = hasPicture;
    if (!hasPicture) element("placeholder").textContent = "No camera was found: others will hear you.";
    this.showMuted();
    await this.list();
  }

  /** Shows in the preview what it would be joined with. */
  showMuted() {
    for (const track of this.media?.getAudioTracks() ?? []) track.enabled = !settings.joinsMuted;
    for (const track of this.media?.getVideoTracks() ?? []) track.enabled = !settings.joinsHidden;
  }

  /** Opens the device that was chosen now. @param {"audio"|"video"} kind */
  async openChosen(kind) {
    remember({ [KINDS[kind]]: element(KINDS[kind]).value });
    return (await openDevices({ [kind]: true })).getTracks()[0];
  }

  /** Puts a track in the place of the one of its kind. */
  replace(track) {
    for (const old of this.media.getTracks().filter((old) => old.kind === track.kind)) {
      track.enabled = old.enabled;
      this.media.removeTrack(old);
      old.stop();
    }
    this.media.addTrack(track);
  }

  /** Fills the lists of devices. */
  async list() {
    const devices = await navigator.mediaDevices.enumerateDevices();
    for (const [id, kind, name] of [["camera", "videoinput", "Camera"], ["microphone", "audioinput", "Microphone"]]) {
      const list = element(id);
      list.replaceChildren(new Option(`Default ${name.toLowerCase()}`, ""));
      devices.filter((device) => device.kind === kind && device.deviceId).forEach((device, index) => {
        list.append(new Option(device.label || `${name} ${index + 1}`, device.deviceId));
      });
      list.value = settings[id];
      // A device that was unplugged since is not chosen any more.
      if (list.selectedIndex < 0) list.value = "";
    }
  }

  /** Shows how loud the microphone is, until `isOver` says so. */
  showLevel(isOver) {
    if (!this.media?.getAudioTracks().length) return;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    let source = null;
    let track = null;
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      if (isOver()) {
        clearInterval(timer);
        context.close();
        return;
      }
      if (track !== this.media.getAudioTracks()[0]) {
        track = this.media.getAudioTracks()[0];
        source?.disconnect();
        source = track ? context.createMediaStreamSource(new MediaStream([track])) : null;
        source?.connect(analyser);
      }
      analyser.getFloatTimeDomainData(samples);
      element("level").value = Math.min(1, Math.max(...samples.map(Math.abs)) * 2);
    }, 100);
  }
}

/** Both devices; one of them where the other is missing. */
async function openAny() {
  let first = null;
  for (const wanted of [{ audio: true, video: true }, { video: true }, { audio: true }]) {
    try {
      return await openDevices(wanted);
    } catch (error) {
      first ??= error;
      // Who said no is not asked again.
      if (error.name === "NotAllowedError") break;
    }
  }
  throw first;
}

async function openDevices({ audio = false, video = false }) {
  if (!navigator.mediaDevices) throw new Error("this page needs HTTPS to use a camera.");
  const open = (camera, microphone) => navigator.mediaDevices.getUserMedia({
    audio: audio ? { echoCancellation: true, noiseSuppression: true, ...exactly(microphone) } : false,
    video: video ? { width: { ideal: 1280 }, height: { ideal: 720 }, ...exactly(camera) } : false,
  });
  const chosen = (id) => element(id).value || settings[id];
  try {
    return await open(chosen("camera"), chosen("microphone"));
  } catch (error) {
    // A remembered device may be gone.
    if (error.name !== "OverconstrainedError") throw error;
    return open("", "");
  }
}

function exactly(deviceId) {
  return deviceId ? { deviceId: { exact: deviceId } } : {};
}

function reasonOf(error) {
  switch (error.name) {
    case "NotAllowedError": return "The camera and the microphone are not allowed. You can join without, or allow them in the browser and load the page again.";
    case "NotFoundError": return "No camera and no microphone were found. You can join without.";
    case "NotReadableError": return "The camera or the microphone is in use by another program.";
    default: return `No camera: ${error.message}`;
  }
}
