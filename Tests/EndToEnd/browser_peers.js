// Runs inside Chromium or Firefox pages of the tests: WHIP and WHEP peers that keep their figures for the test to read.

window.peers = {};

/** Sends media through relays: `ports` maps the server's ports to theirs. */
function throughRelays(answer, ports) {
  return answer.replace(/(a=candidate:\S+ 1 udp \d+ \S+ )(\d+)( typ)/g, (_, head, port, tail) =>
    head + (ports?.[port] ?? port) + tail);
}

async function post(url, connection, ports, token) {
  await connection.setLocalDescription();
  const headers = { "Content-Type": "application/sdp" };
  if (token) headers.Authorization = `Bearer ${token}`;
  const response = await fetch(url, { method: "POST", headers, body: connection.localDescription.sdp });
  const text = await response.text();
  if (response.status !== 201) throw new Error(`${response.status} ${text}`);
  await connection.setRemoteDescription({ type: "answer", sdp: throughRelays(text, ports) });
  return { location: response.headers.get("Location"), whep: response.headers.get("WHEP"), answer: text };
}

/** A picture that no encoder finds easy: a canvas of moving noise, for tests that need bitrate. */
function noise(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  let phase = 0;
  setInterval(() => {
    phase += 1;
    const words = new Uint32Array(image.data.buffer);
    let seed = phase * 2654435761;
    for (let i = 0; i < words.length; i += 1) {
      if (i % 8 === 0) seed = (seed * 1664525 + 1013904223) >>> 0;
      words[i] = 0xff000000 | (seed & 0x3f3f3f) | 0x404040;
    }
    context.putImageData(image, 0, 0);
  }, 33);
  return canvas.captureStream(30);
}

async function publish(name, { url, codec, width = 640, height = 360, frameRate = 30, audio = true, useNoise = false, ports, token, encodings }) {
  const connection = new RTCPeerConnection();
  const media = await navigator.mediaDevices.getUserMedia({
    video: useNoise ? false : { width, height, frameRate }, audio,
  });
  if (useNoise) {
    const [track] = noise(width, height).getVideoTracks();
    // Keeps the resolution: a smaller picture, which a busy machine makes Chromium send, has a lower ceiling of bitrate.
    track.contentHint = "detail";
    media.addTrack(track);
  }
  for (const track of media.getTracks()) {
    const several = track.kind === "video" && encodings ? { sendEncodings: encodings } : {};
    const transceiver = connection.addTransceiver(track, { direction: "sendonly", streams: [media], ...several });
    if (track.kind === "video" && codec) {
      const all = RTCRtpReceiver.getCapabilities("video").codecs;
      const isChosen = (c) => c.mimeType.toLowerCase() === `video/${codec.toLowerCase()}`;
      transceiver.setCodecPreferences([...all.filter(isChosen), ...all.filter((c) => !isChosen(c))]);
    }
  }
  window.peers[name] = { connection, media };
  Object.assign(window.peers[name], await post(url, connection, ports, token));
  return { whep: window.peers[name].whep, answer: window.peers[name].answer };
}

async function watch(name, { url, kinds = ["video", "audio"], ports, token }) {
  const connection = new RTCPeerConnection();
  const startedAt = performance.now();
  const peer = (window.peers[name] = { connection, firstFrameMs: null, frameTimes: [] });
  const video = document.createElement("video");
  Object.assign(video, { autoplay: true, playsInline: true, width: 160 });
  document.body.append(video);
  const stream = new MediaStream();
  video.srcObject = stream;
  const onFrame = () => {
    peer.firstFrameMs ??= performance.now() - startedAt;
    peer.frameTimes.push(performance.now());
    video.requestVideoFrameCallback?.(onFrame);
  };
  if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(onFrame);
  else video.addEventListener("loadeddata", onFrame);
  for (const kind of kinds) connection.addTransceiver(kind, { direction: "recvonly" });
  connection.addEventListener("track", ({ track }) => {
    stream.addTrack(track);
    video.play().catch(() => {});
  });
  peer.video = video;
  Object.assign(peer, await post(url, connection, ports, token));
}

/** Figures of one peer: RTP streams by direction and kind, the connection's state, and the viewer's first frame. */
async function figures(name) {
  const peer = window.peers[name];
  const result = { state: peer.connection.connectionState, firstFrameMs: peer.firstFrameMs ?? null, at: performance.now() };
  const codecs = {};
  const stats = [...(await peer.connection.getStats()).values()];
  for (const item of stats) if (item.type === "codec") codecs[item.id] = item.mimeType;
  for (const item of stats) {
    if (item.type === "outbound-rtp" || item.type === "inbound-rtp" || item.type === "remote-inbound-rtp") {
      result[`${item.type}-${item.kind}`] = { ...item, codec: codecs[item.codecId] };
    }
  }
  return result;
}

async function hangUp(name) {
  const peer = window.peers[name];
  delete window.peers[name];
  if (!peer) return;
  await fetch(peer.location, { method: "DELETE" });
  peer.connection.close();
  peer.media?.getTracks().forEach((track) => track.stop());
  peer.video?.remove();
}
