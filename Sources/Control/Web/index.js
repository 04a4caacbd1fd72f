// The start page: makes a room that nobody guesses, and shows its links.

import { showExpectedPrivacy } from "/assets/expectation.js";
import { showLinks } from "/assets/links.js";
import { element, makeFragment, randomIdentifier } from "/assets/page.js";
import { randomID } from "/sdk/sluice.js";

let identifier = "";
let key = "";

for (const choice of document.querySelectorAll("input[name=mode]")) choice.addEventListener("change", show);
element("another").addEventListener("click", make);
make();

/** Another room, and another key with it. */
function make() {
  identifier = randomIdentifier();
  key = randomID();
  show();
}

function show() {
  const isEncrypted = document.querySelector("input[name=mode]:checked").value === "e2ee";
  showExpectedPrivacy(isEncrypted);
  showLinks(element("links"), identifier, isEncrypted ? key : "");
  element("enter").href = `/room${makeFragment({ identifier, key: isEncrypted ? key : "" })}`;
}
