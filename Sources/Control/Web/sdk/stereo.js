// Sound in stereo (RFC 7587 §6.1). Browsers ask for it by what stands in a description, and only there.

/**
 * An offer that says of some m-lines that their sound is in stereo: a browser sends two channels to whom answers that they are wanted.
 *
 * @param {string} sdp
 * @param {(mid: string) => boolean} isMusic Of which m-lines.
 */
export function musicOffer(sdp, isMusic) {
  return withOpus(sdp, isMusic, { stereo: "1", "sprop-stereo": "1" });
}

/**
 * A description of one's own by which a browser plays in stereo what it only receives.
 *
 * @param {string} sdp
 * @param {string=} offer What it answers: then only where that has stereo.
 */
export function stereoDescription(sdp, offer) {
  const offered = offer === undefined ? null : new Set(mediaSections(offer).filter((section) => /[ ;]sprop-stereo=1/.test(section)).map(midOf));
  const isMeant = (mid, section) => /^a=recvonly/m.test(section) && (offered?.has(mid) ?? true);
  return withOpus(sdp, isMeant, { stereo: "1" });
}

/** The session's part comes first. */
function mediaSections(sdp) {
  return sdp.split(/(?=^m=)/m);
}

function midOf(section) {
  return section.match(/^a=mid:(\S+)/m)?.[1];
}

/** Sets parameters of Opus in some m-lines. */
function withOpus(sdp, isMeant, parameters) {
  return mediaSections(sdp).map((section) => {
    const opus = section.match(/^a=rtpmap:(\d+) opus\/48000/im)?.[1];
    if (!section.startsWith("m=audio") || opus === undefined || !isMeant(midOf(section), section)) return section;
    const added = Object.entries(parameters).map(([name, value]) => `${name}=${value}`);
    const line = new RegExp(`^(a=fmtp:${opus} )(.*?)(\r?)$`, "m");
    if (!line.test(section)) {
      return section.replace(new RegExp(`^(a=rtpmap:${opus} .*?)(\r?)$`, "m"), `$1$2\na=fmtp:${opus} ${added.join(";")}$2`);
    }
    return section.replace(line, (_, head, old, end) => {
      const others = old.split(";").map((part) => part.trim()).filter((part) => part && !(part.split("=")[0] in parameters));
      return head + [...others, ...added].join(";") + end;
    });
  }).join("");
}
