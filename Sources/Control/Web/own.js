// One's own streams: the camera with its microphone, and the screen.

import { isWorded, stopTracks, wordsOf } from "/assets/capture.js";
import { element, showError } from "/assets/page.js";

const BUTTONS = { audio: "mute", video: "hide" };

export class OwnStreams {
  #tiles;
  #devices;
  #getRoom;
  #camera = null;
  #screen = null;
  /** Whether the browser asks what to share. */ #isChoosing = false;

  /**
   * @param {import("/assets/tiles.js").Tiles} tiles
   * @param {import("/assets/devices.js").Devices} devices
   * @param {() => import("/sdk/sluice.js").Room|null} getRoom
   */
  constructor(tiles, devices, getRoom) {
    this.#tiles = tiles;
    this.#devices = devices;
    this.#getRoom = getRoom;
  }

  /** Publishes the devices that are open, unless that was done. */
  async publishCamera() {
    const room = this.#getRoom();
    const { media } = this.#devices;
    if (!room || !media || room.published.some((stream) => stream.media === media)) return;
    let camera;
    try {
      camera = await room.publish(media, { kind: "camera" });
    } catch (error) {
      if (room === this.#getRoom()) showError(wordsOf(error));
      return;
    }
    if (room !== this.#getRoom()) return;
    this.#camera = camera;
    this.#showCamera();
  }

  /** Goes on with the device that is chosen now. @param {"audio"|"video"} kind */
  async changeDevice(kind) {
    const track = await this.#devices.openChosen(kind);
    if (!track) return;
    const camera = this.#camera;
    if (!camera) {
      this.#devices.replace(track);
    } else if (camera.media.getTracks().some((old) => old.kind === kind)) {
      await camera.replaceTrack(track);
      // The room may have been left meanwhile.
      if (camera === this.#camera) this.#showCamera();
    } else {
      await this.#getRoom().unpublish(camera);
      this.#tiles.remove(camera.id);
      this.#devices.replace(track);
      await this.publishCamera();
    }
  }

  /** Mutes or unmutes. @param {"audio"|"video"} kind */
  async toggle(kind) {
    const camera = this.#camera;
    if (!camera || element(BUTTONS[kind]).disabled) return;
    const told = camera.setMuted(kind, !camera.muted.includes(kind));
    this.#showCamera();
    await told.catch((error) => showError(wordsOf(error)));
  }

  /**
   * Mutes.
   *
   * @param {"audio"|"video"} kind
   * @param {string=} stream Which one: the camera by default. A screen is ended, as it is nothing without its picture.
   * @returns {boolean} Whether there was something to mute.
   */
  silence(kind, stream = this.#camera?.id) {
    if (this.#screen?.id === stream && kind === "video") {
      this.share();
      return true;
    }
    if (!this.#camera || this.#camera.id !== stream || this.#camera.muted.includes(kind)) return false;
    this.toggle(kind);
    return true;
  }

  /** Begins to share the screen, or ends it. */
  async share() {
    if (!this.#screen) {
      await this.#startScreen();
      return;
    }
    const stream = this.#screen;
    this.#screen = null;
    press("share", false);
    this.#tiles.remove(stream.id);
    await stream.stop().catch((error) => showError(wordsOf(error)));
  }

  async #startScreen() {
    if (this.#isChoosing) return;
    const room = this.#getRoom();
    let display = null;
    let screen = null;
    this.#isChoosing = true;
    try {
      display = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true });
      if (room === this.#getRoom()) screen = await room.publish(display, { kind: "screen" });
    } catch (error) {
      // Who closes the browser's question has changed their mind.
      if (error.name !== "NotAllowedError" && room === this.#getRoom()) showError(screenWords(error));
    }
    this.#isChoosing = false;
    // The room may have ended while one chose.
    if (!screen || room !== this.#getRoom()) {
      stopTracks(display);
      return;
    }
    this.#screen = screen;
    press("share", true);
    this.#show(screen, "Your screen");
    const [picture] = display.getVideoTracks();
    const end = () => this.#screen === screen && this.share();
    picture.addEventListener("ended", end);
    if (picture.readyState === "ended") end();
  }

  /** After the room: nothing is shared any more. The camera stays for the preview. */
  end() {
    this.#camera = null;
    stopTracks(this.#screen?.media);
    this.#screen = null;
    for (const button of ["mute", "hide", "share"]) press(button, false);
  }

  #showCamera() {
    for (const [kind, button] of Object.entries(BUTTONS)) {
      press(button, this.#camera.muted.includes(kind));
      element(button).disabled = !this.#camera.media.getTracks().some((track) => track.kind === kind);
    }
    this.#show(this.#camera, "You");
  }

  #show({ id, kind, media, muted }, name) {
    this.#tiles.show({ id, name, media, own: true, kind, live: true, muted, hasMenu: false });
  }
}

function screenWords(error) {
  if (isWorded(error)) return `The screen can't be shared: ${error.message}`;
  return "The screen can't be shared: this browser, or the system's settings, don't let it. Choose another window, or allow it there.";
}

/** @param {boolean} isPressed */
export function press(button, isPressed) {
  element(button).setAttribute("aria-pressed", String(isPressed));
}
