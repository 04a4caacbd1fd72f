// The camera and the microphone: opened for the preview, kept for the room.

import { exactly, LISTS, listDevices, openDevices, reasonOf, stopTracks } from "/assets/capture.js";
import { element } from "/assets/page.js";
import { settings } from "/assets/settings.js";

export class Devices {
  /** @type {MediaStream|null} What is open. */ media = null;
  /** Settled once the devices were asked for. */ ready = Promise.resolve();
  /** @type {(kind: "audio"|"video") => void} Told of a device that was unplugged, or is not allowed any more. */ lost = () => {};
  // Counts openings and closings: what the browser grants to an earlier one comes too late, and is given back.
  #run = 0;

  /** Asks for both devices, or for the one that there is, and shows what comes of it. */
  open() {
    this.ready = this.#open(++this.#run);
    return this.ready;
  }

  /** Lets the devices go. */
  close() {
    this.#run += 1;
    stopTracks(this.media);
    this.media = null;
    element("preview").srcObject = null;
    element("placeholder").hidden = false;
  }

  async #open(run) {
    let media;
    try {
      media = await openAny();
    } catch (error) {
      if (run === this.#run) element("placeholder").textContent = `${reasonOf(error)} Then load the page again, or join without.`;
      return;
    }
    if (run !== this.#run) {
      stopTracks(media);
      return;
    }
    this.media = media;
    for (const track of media.getTracks()) this.#watch(track);
    element("preview").srcObject = media;
    const hasPicture = media.getVideoTracks().length > 0;
    element("placeholder").hidden = hasPicture;
    if (!hasPicture) element("placeholder").textContent = "No camera was found: others will hear you.";
    this.showMuted();
    await listDevices(settings);
  }

  #watch(track) {
    track.addEventListener("ended", () => this.media?.getTracks().includes(track) && this.lost(track.kind));
  }

  /** Shows in the preview what it would be joined with. */
  showMuted() {
    for (const track of this.media?.getAudioTracks() ?? []) track.enabled = !settings.joinsMuted;
    for (const track of this.media?.getVideoTracks() ?? []) track.enabled = !settings.joinsHidden;
  }

  /**
   * Opens the device that is chosen now.
   *
   * @param {"audio"|"video"} kind
   * @returns {Promise<MediaStreamTrack|null>} null where meanwhile another was chosen, or the devices were let go.
   */
  async openChosen(kind) {
    const list = element(LISTS[kind]);
    const chosen = list.value;
    const media = await openWanted({ [kind]: true });
    if (list.value !== chosen || !this.media) {
      stopTracks(media);
      return null;
    }
    const [track] = media.getTracks();
    this.#watch(track);
    return track;
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

  /** Shows how loud the microphone is, until `isOver` says so. */
  showLevel(isOver) {
    if (!this.media?.getAudioTracks().length) return;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    let source = null;
    let track = null;
    const samples = new Float32Array(analyser.fftSize);
    const timer = setInterval(() => {
      if (isOver() || !this.media) {
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
      return await openWanted(wanted);
    } catch (error) {
      first ??= error;
      // Who said no is not asked again.
      if (error.name === "NotAllowedError") break;
    }
  }
  throw first;
}

async function openWanted({ audio = false, video = false }) {
  const open = (camera, microphone) => openDevices({
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
