// One's own streams: the camera with its microphone, and the screen.

import { element, showError } from "/assets/page.js";

const BUTTONS = { audio: "mute", video: "hide" };

export class OwnStreams {
  #tiles;
  #devices;
  #getRoom;
  #camera = null;
  #screen = null;

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

  async publishCamera() {
    const room = this.#getRoom();
    if (!room || !this.#devices.media) return;
    try {
      this.#camera = await room.publish(this.#devices.media, { kind: "camera" });
    } catch (error) {
      showError(error.message);
      return;
    }
    this.#showCamera();
  }

  /** Goes on with the device that was chosen now. @param {"audio"|"video"} kind */
  async changeDevice(kind) {
    const track = await this.#devices.openChosen(kind);
    const camera = this.#camera;
    if (!camera) {
      this.#devices.replace(track);
    } else if (camera.media.getTracks().some((old) => old.kind === kind)) {
      await camera.replaceTrack(track);
      this.#showCamera();
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
    await told.catch((error) => showError(error.message));
  }

  /** @returns {boolean} Whether there was something to mute. */
  silence() {
    if (!this.#camera || this.#camera.muted.includes("audio")) return false;
    this.toggle("audio");
    return true;
  }

  /** Begins to share the screen, or ends it. */
  async share() {
    if (this.#screen) {
      const stream = this.#screen;
      this.#screen = null;
      press("share", false);
      this.#tiles.remove(stream.id);
      await stream.stop().catch((error) => showError(error.message));
      return;
    }
    try {
      const display = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: true });
      this.#screen = await this.#getRoom().publish(display, { kind: "screen" });
      press("share", true);
      this.#show(this.#screen, "Your screen");
      display.getVideoTracks()[0].addEventListener("ended", () => this.#screen && this.share());
    } catch (error) {
      // Who closes the browser's question has changed their mind.
      if (error.name !== "NotAllowedError") showError(`The screen can't be shared: ${error.message}`);
    }
  }

  /** After the room: nothing is shared any more. The camera stays for the preview. */
  end() {
    this.#camera = null;
    this.#screen?.media.getTracks().forEach((track) => track.stop());
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

/** @param {boolean} isPressed */
export function press(button, isPressed) {
  element(button).setAttribute("aria-pressed", String(isPressed));
}
