// The button that records, and what others are told of it.

import { element, showError } from "/assets/page.js";
import { download, Recording } from "/assets/recording.js";

// Who records says so again and again: whoever joins later is told too, and one who vanished is forgotten (notices.js).
const REPEAT_MS = 10_000;

export class RecordButton {
  #tiles;
  #recorders;
  #getRoom;
  #recording = null;

  /**
   * @param {import("/assets/tiles.js").Tiles} tiles
   * @param {import("/assets/notices.js").Recorders} recorders
   * @param {() => import("/sdk/sluice.js").Room|null} getRoom
   */
  constructor(tiles, recorders, getRoom) {
    this.#tiles = tiles;
    this.#recorders = recorders;
    this.#getRoom = getRoom;
    element("record").addEventListener("click", () => (this.#recording ? this.stop() : this.#start()));
    setInterval(() => this.tell(), REPEAT_MS);
    addEventListener("beforeunload", (event) => this.#recording && event.preventDefault());
  }

  #start() {
    let recording;
    try {
      recording = new Recording(this.#tiles, element("record-what").value === "own");
    } catch (error) {
      showError("This browser can't record this room: try another one, such as Chromium or Firefox.");
      return;
    }
    this.#recording = recording;
    recording.ended.then(() => {
      if (this.#recording !== recording) return;
      showError("The recording has ended by itself. What there is of it is saved.");
      this.stop();
    });
    this.#show(true);
    this.tell();
  }

  /** Ends the recording, if there is one, and saves it. */
  async stop() {
    const recording = this.#recording;
    if (!recording) return;
    this.#recording = null;
    this.#show(false);
    this.#send(false);
    download(await recording.stop());
  }

  /** Tells the others, while there is a recording. */
  tell() {
    if (this.#recording) this.#send(true);
  }

  #send(isRecording) {
    const room = this.#getRoom();
    if (room?.state === "joined") room.send({ recording: isRecording }).catch(() => {});
  }

  #show(isRecording) {
    element("record").setAttribute("aria-pressed", String(isRecording));
    element("record").textContent = isRecording ? "Stop and save" : "Record";
    element("record-what").disabled = isRecording;
    this.#recorders.setOwn(isRecording);
  }
}
