// Runs inside pages of the tests: rooms of the SDK, by name.

window.rooms = {};

async function enterRoom(name, options) {
  const { join } = await import("/sdk/sluice.js");
  const room = await join({ name, ...options });
  const place = (window.rooms[name] = { room, videos: new Map(), messages: [], errors: [] });
  room.addEventListener("message", ({ detail }) => place.messages.push(detail.data));
  room.addEventListener("error", ({ detail }) => place.errors.push(detail.code));
  const show = (stream) => {
    let video = place.videos.get(stream.id);
    if (!video) {
      video = Object.assign(document.createElement("video"), { autoplay: true, playsInline: true, width: 320 });
      video.srcObject = stream.media;
      document.body.append(video);
      place.videos.set(stream.id, video);
    }
  };
  for (const type of ["stream-added", "stream-updated"]) room.addEventListener(type, ({ detail }) => show(detail));
  for (const stream of room.streams.values()) show(stream);
}

async function publishCamera(name, { codec, id } = {}) {
  const media = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 360, frameRate: 30 }, audio: true });
  await window.rooms[name].room.publish(media, { codec, id });
}

/** What is received in a room: frames decoded, audio energy, the codec, and whether it can be read. */
async function received(name) {
  const { room, messages, errors } = window.rooms[name];
  const stats = room.connections.receive ? [...(await room.connections.receive.getStats()).values()] : [];
  const inbound = (kind) => stats.filter((item) => item.type === "inbound-rtp" && item.kind === kind);
  const codecs = stats.filter((item) => item.type === "codec").map((item) => item.mimeType);
  return {
    frames: inbound("video").reduce((sum, item) => sum + (item.framesDecoded ?? 0), 0),
    received: inbound("video").reduce((sum, item) => sum + (item.framesReceived ?? 0), 0),
    packets: inbound("video").reduce((sum, item) => sum + (item.packetsReceived ?? 0), 0),
    samples: inbound("audio").reduce((sum, item) => sum + (item.totalSamplesReceived ?? 0) - (item.concealedSamples ?? 0), 0),
    energy: inbound("audio").reduce((sum, item) => sum + (item.totalAudioEnergy ?? 0), 0),
    undecryptable: [...room.streams.values()].map((stream) => stream.undecryptable),
    encryption: await room.encryptionStatistics(),
    codecs, messages, errors,
  };
}
