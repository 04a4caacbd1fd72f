// Records what one sees and hears to a file on one's own device.

const SIZE = { width: 1280, height: 720 };
// A software encoder has to keep up beside the room's own encoders and decoders.
const FRAMES_PER_SECOND = 15;
// What the encoder still has in hand when the recording ends gets this long to come out.
const DRAIN_MS = 500;
const BITS_PER_SECOND = 4_000_000;
const TYPES = ["video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];

/** Draws the tiles into one picture, mixes their sound, and records both. */
export class Recording {
  #tiles;
  #isWanted;
  #canvas = Object.assign(document.createElement("canvas"), SIZE);
  #context = new AudioContext();
  #mix = this.#context.createMediaStreamDestination();
  #sources = new Map();
  /** @type {Promise<void>} Settled when the recorder has ended: by `stop`, or by itself, as when its encoder fails. */ ended;
  #recorder;
  #chunks = [];
  #timer;

  /**
   * @param {import("/assets/tiles.js").Tiles} tiles
   * @param {boolean} isOnlyOwn Whether to record only one's own streams.
   * @throws {Error} Where the browser can't record.
   */
  constructor(tiles, isOnlyOwn) {
    this.#tiles = tiles;
    this.#isWanted = (content) => !isOnlyOwn || content.own;
    const mimeType = TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    const stream = new MediaStream([...this.#canvas.captureStream(FRAMES_PER_SECOND).getTracks(), ...this.#mix.stream.getTracks()]);
    this.#recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: BITS_PER_SECOND });
    this.#recorder.addEventListener("dataavailable", ({ data }) => this.#chunks.push(data));
    this.ended = new Promise((resolve) => this.#recorder.addEventListener("stop", () => resolve(), { once: true }));
    this.#draw();
    this.#recorder.start(1000);
    this.#timer = setInterval(() => this.#draw(), 1000 / FRAMES_PER_SECOND);
    if (!isOnlyOwn) tiles.setRecorded(SIZE);
  }

  /** Ends the recording. @returns {Promise<Blob>} The file. */
  async stop() {
    clearInterval(this.#timer);
    this.#tiles.setRecorded(null);
    await new Promise((resolve) => setTimeout(resolve, DRAIN_MS));
    if (this.#recorder.state !== "inactive") this.#recorder.stop();
    await this.ended;
    await this.#context.close();
    return new Blob(this.#chunks, { type: this.#recorder.mimeType });
  }

  #draw() {
    const contents = this.#tiles.contents.filter(this.#isWanted);
    this.#connect(contents);
    const paint = this.#canvas.getContext("2d");
    paint.fillStyle = "#000";
    paint.fillRect(0, 0, SIZE.width, SIZE.height);
    const places = this.#tiles.places(SIZE.width, SIZE.height, this.#isWanted);
    for (const content of contents) {
      const place = places.get(content.id);
      if (place) drawTile(paint, content, this.#tiles.video(content.id), place);
    }
  }

  /** Mixes the sound of those who are there now. */
  #connect(contents) {
    const tracks = contents.flatMap((content) => content.media.getAudioTracks());
    for (const track of tracks) {
      if (this.#sources.has(track)) continue;
      const source = this.#context.createMediaStreamSource(new MediaStream([track]));
      source.connect(this.#mix);
      this.#sources.set(track, source);
    }
    for (const [track, source] of this.#sources) {
      if (tracks.includes(track)) continue;
      source.disconnect();
      this.#sources.delete(track);
    }
  }
}

/** Offers the file, named by the day. */
export function download(file, now = new Date()) {
  const day = [now.getFullYear(), now.getMonth() + 1, now.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = `sluice-${day}.${file.type.includes("mp4") ? "mp4" : "webm"}`;
  link.click();
  // The browser has its own hold on the file once the download has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function drawTile(paint, content, video, { left, top, width, height }) {
  paint.save();
  paint.beginPath();
  paint.rect(left, top, width, height);
  paint.clip();
  paint.fillStyle = "#1d232c";
  paint.fillRect(left, top, width, height);
  const isShown = video.videoWidth > 0 && !content.muted?.includes("video") && !content.undecryptable;
  if (isShown) {
    const choose = content.kind === "screen" ? Math.min : Math.max;
    const scale = choose(width / video.videoWidth, height / video.videoHeight);
    const size = { width: video.videoWidth * scale, height: video.videoHeight * scale };
    paint.drawImage(video, left + (width - size.width) / 2, top + (height - size.height) / 2, size.width, size.height);
  }
  paint.font = "18px sans-serif";
  paint.fillStyle = "rgb(0 0 0 / 70%)";
  const text = content.name;
  paint.fillRect(left + 8, top + height - 36, Math.min(width - 16, paint.measureText(text).width + 20), 28);
  paint.fillStyle = "#fff";
  paint.fillText(text, left + 18, top + height - 16);
  paint.restore();
}
